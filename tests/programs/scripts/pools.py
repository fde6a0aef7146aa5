"""Processes by spawn and fork, in pools and executors."""
import concurrent.futures, multiprocessing, sys

def square(n):
    return n * n

def feed(queue, n):
    for k in range(3):
        queue.put((n, k))

def main():
    for method in sys.argv[1:]:
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
            print(method, list(pool.map(square, range(8))))
        with context.Pool(2) as pool:
            print(method, pool.map(square, range(8)))
        queue = context.Queue()
        children = [context.Process(target=feed, args=(queue, n)) for n in range(2)]
        for child in children: child.start()
        print(sorted(queue.get() for _ in range(6)))
        for child in children: child.join()
        print([child.exitcode for child in children])
        counter = context.Value('i', 0)
        with counter.get_lock(): counter.value += 5
        print(counter.value)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        print(sum(pool.map(square, range(100))))

if __name__ == '__main__':
    main()
