"""Threads, locks, queues and pools; child processes by every way that the library has."""
import concurrent.futures, multiprocessing, os, queue, signal, subprocess, sys, threading, time

lock, total = threading.Lock(), 0


def add(n):
    global total
    for _ in range(n):
        with lock:
            total += 1


threads = [threading.Thread(target=add, args=(500,)) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print("total", total)

jobs, results = queue.Queue(), queue.Queue()


def work():
    while (n := jobs.get()) is not None:
        results.put(n * n)
        jobs.task_done()


workers = [threading.Thread(target=work) for _ in range(3)]
[w.start() for w in workers]
[jobs.put(n) for n in range(20)]
jobs.join()
[jobs.put(None) for _ in workers]
[w.join() for w in workers]
print(sorted(results.get() for _ in range(20)))

ready, go = threading.Event(), threading.Condition()
barrier = threading.Barrier(3)
order = []


def meet(n):
    barrier.wait()
    with go:
        order.append(n)
        go.notify_all()


[threading.Thread(target=meet, args=(n,)).start() for n in range(3)]
with go:
    while len(order) < 3:
        go.wait(5)
print(sorted(order), ready.wait(0.01))

with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(list(pool.map(lambda n: n**3, range(8))))
with concurrent.futures.ProcessPoolExecutor(2) as pool:
    print(list(pool.map(abs, range(-4, 4))))

print(subprocess.run(["tr", "a-z", "A-Z"], input=b"shouted", capture_output=True).stdout)
print(subprocess.run("exit 7", shell=True).returncode)
child = subprocess.Popen(["sleep", "100"])
child.terminate()
print(child.wait(), child.returncode == -signal.SIGTERM)
try:
    subprocess.run(["sleep", "5"], timeout=0.1)
except subprocess.TimeoutExpired as e:
    print(type(e).__name__)

pid = os.fork()
if pid == 0:
    os._exit(9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
r, w = os.pipe()
if os.fork() == 0:
    os.close(r)
    os.write(w, b"x" * 200_000)
    os._exit(0)
os.close(w)
read = 0
while part := os.read(r, 65536):
    read += len(part)
print(read, os.wait()[1])

print(threading.active_count(), os.cpu_count() > 0, len(os.listdir("/proc/self/task")))
timer = threading.Timer(0.05, lambda: print("timer"))
timer.start()
timer.join()
signal.signal(signal.SIGCHLD, lambda *_: print("child"))
subprocess.run(["true"])
sys.exit(4)
