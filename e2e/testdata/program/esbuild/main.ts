import { add } from "./add";

enum Colour {
  Red,
  Green,
}
console.log(add(40, 2), Colour[1]);
