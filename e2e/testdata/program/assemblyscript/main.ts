// Sums the numbers on stdin; the arguments and the clock are there too.
const room = new ArrayBuffer(4096);
let text = "";
for (;;) {
  const n = process.stdin.read(room);
  if (n <= 0) break;
  text += String.UTF8.decode(room.slice(0, n));
}
let sum: f64 = 0;
const words = text.split(" ");
for (let i = 0; i < words.length; i++) sum += parseFloat(words[i]);
console.log(process.argv.slice(1).join("+") + " " + sum.toString());
assert(Date.now() > 1600000000000);
process.exit(sum == 42 ? 4 : 1);
