"""asyncio with subprocesses, threads, timers and queues."""
import asyncio, subprocess, sys

async def worker(queue, out):
    while (n := await queue.get()) is not None:
        await asyncio.sleep(0.001 * n)
        out.append(n)

async def main():
    child = await asyncio.create_subprocess_exec('tr', 'a-z', 'A-Z', stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    print(await child.communicate(b'from asyncio'), child.returncode)
    shells = await asyncio.gather(*(asyncio.create_subprocess_shell(f'exit {n}') for n in range(3)))
    print([await shell.wait() for shell in shells])
    queue, out = asyncio.Queue(), []
    tasks = [asyncio.create_task(worker(queue, out)) for _ in range(3)]
    for n in (5, 3, 9, 1): queue.put_nowait(n)
    for _ in tasks: queue.put_nowait(None)
    await asyncio.gather(*tasks)
    print(sorted(out))
    print(await asyncio.to_thread(sum, range(100)))
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.05)
    except TimeoutError:
        print('timed out')
    try:
        async with asyncio.timeout(0.2):
            shell = await asyncio.create_subprocess_shell('sleep 30')
            await shell.wait()
    except TimeoutError:
        shell.kill()
        print(await shell.wait())

asyncio.run(main())
print(subprocess.run(['sh', '-c', 'echo out; echo err >&2; exit 3'], capture_output=True))
print(subprocess.run('cat | wc -c', shell=True, input=b'x' * 200000, capture_output=True).stdout)
try:
    subprocess.run(['sleep', '9'], timeout=0.1)
except subprocess.TimeoutExpired as e:
    print('expired', round(e.timeout, 1))
