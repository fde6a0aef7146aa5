# Threads, queues, a monitor, timeouts, processes and signals.
require "monitor"
require "timeout"

queue = Queue.new
done = SizedQueue.new(3)
workers = 4.times.map do
  Thread.new do
    while (n = queue.pop)
      done << [n, (1..n).reduce(1, :*)]
    end
  end
end
20.times { |n| queue << n + 1 }
4.times { queue << nil }
results = 20.times.map { done.pop }.sort
puts results.last.inspect
workers.each(&:join)

account = 0
lock = Monitor.new
changed = lock.new_cond
adders = 8.times.map do
  Thread.new do
    50.times do
      lock.synchronize do
        before = account
        Thread.pass
        account = before + 1
        changed.broadcast
      end
    end
  end
end
lock.synchronize { changed.wait_while { account < 400 } }
adders.each(&:join)
puts account

begin
  Timeout.timeout(0.05) { sleep }
rescue Timeout::Error => e
  puts e.class
end

reader, writer = IO.pipe
child = fork do
  reader.close
  trap("TERM") { writer.puts "asked to end"; exit! 3 }
  writer.puts "ready"
  sleep
end
writer.close
puts reader.gets
Process.kill("TERM", child)
puts reader.read
puts Process.wait2(child)[1].exitstatus
puts `echo from a shell; exit 5`, $?.exitstatus
puts Thread.new { Thread.current[:own] = 1; raise "raised" }.tap { |t| t.report_on_exception = false }.join rescue puts $!.message
fiber = Fiber.new { 3.times { |i| Fiber.yield i }; :end }
puts 4.times.map { fiber.resume }.inspect
puts ObjectSpace.count_objects[:TOTAL] > 0, GC.start.inspect
