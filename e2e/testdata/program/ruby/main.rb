# What a script does: blocks, strings, files, big numbers.
counts = STDIN.read.split.tally
puts counts.sort_by { |word, n| [-n, word] }.map { |word, n| "#{word}=#{n}" }.join(" ")
File.write("/app/out.txt", "kept".reverse)
puts File.read("/app/out.txt"), Dir.children("/app").sort.inspect
puts 2**100, (1..20).reduce(:*)
exit 3
