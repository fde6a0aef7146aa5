# Threads, queues, a mutex and a condition variable, child processes.
require 'open3'
queue = Queue.new
workers = 4.times.map { |n| Thread.new { sum = 0; while (job = queue.pop) != :done; sum += job * job; Thread.pass; end; sum } }
200.times { |n| queue << n }
4.times { queue << :done }
puts workers.map(&:value).sum
lock, ready, turn = Mutex.new, ConditionVariable.new, 0
players = 3.times.map { |n| Thread.new { 5.times { |k| lock.synchronize { ready.wait(lock) until turn % 3 == n; print n, k, ' '; turn += 1; ready.broadcast } } } }
players.each(&:join)
puts
out, status = Open3.capture2('tr a-z A-Z', stdin_data: 'from ruby')
puts out, status.exitstatus
pid = fork { sleep 0.1; exit 7 }
Process.wait(pid)
puts $?.exitstatus
r, w = IO.pipe
fork { r.close; w.puts 'through a pipe'; w.close; exit! 0 }
w.close; puts r.read; Process.wait
begin
  require "timeout"
  Timeout.timeout(0.2) { sleep 5 }
rescue Timeout::Error
  puts 'timed out'
end
trap('USR1') { puts 'got USR1' }
Process.kill('USR1', $$); sleep 0.01
puts ObjectSpace.count_objects.size > 3, GC.start.inspect
