<?php
// Child processes, streams, sorting, regular expressions, a generator.
$words = array_count_values(array_map('trim', file($argv[1])));
arsort($words); ksort($words);
echo count($words), ' ', md5(serialize($words)), "\n";
$child = proc_open(['tr', 'a-z', 'A-Z'], [['pipe', 'r'], ['pipe', 'w']], $pipes);
fwrite($pipes[0], "from php\n"); fclose($pipes[0]);
echo stream_get_contents($pipes[1]); echo proc_close($child), "\n";
echo shell_exec('echo by a shell; exit 3');
function squares($n) { for ($i = 0; $i < $n; $i++) yield $i * $i; }
echo array_sum(iterator_to_array(squares(100))), "\n";
echo json_encode(['a' => [1, 2.5, null], 'b' => preg_split('/\W+/', 'some words, and more')]), "\n";
$fiber = new Fiber(function ($x) { $y = Fiber::suspend($x * 2); return $x + $y; });
echo $fiber->start(5), ' '; $fiber->resume(7); echo $fiber->getReturn(), "\n";
$file = tempnam(sys_get_temp_dir(), 'x'); $f = fopen($file, 'c+'); flock($f, LOCK_EX); fwrite($f, gzcompress(str_repeat('abc', 1000)));
fclose($f); echo strlen(gzuncompress(file_get_contents($file))), "\n"; unlink($file);
try { intdiv(1, 0); } catch (DivisionByZeroError $e) { echo $e->getMessage(), "\n"; }
usleep(1000); exit(4);
