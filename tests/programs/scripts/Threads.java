// Threads, executors, files, a child process.
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.stream.*;

public class Threads {
    public static void main(String[] args) throws Exception {
        var pool = Executors.newFixedThreadPool(4);
        var results = new ArrayList<Future<Long>>();
        for (long n = 1; n <= 8; n++) { final long k = n; results.add(pool.submit(() -> LongStream.range(0, k * 1000).sum())); }
        for (var result : results) System.out.print(result.get() + " ");
        System.out.println();
        pool.shutdown();
        System.out.println(pool.awaitTermination(5, TimeUnit.SECONDS));
        var count = new AtomicInteger(); var latch = new CountDownLatch(3); var lock = new Object();
        for (int n = 0; n < 3; n++) new Thread(() -> { for (int k = 0; k < 1000; k++) synchronized (lock) { count.addAndGet(1); } latch.countDown(); }).start();
        latch.await();
        System.out.println(count + " " + IntStream.range(0, 10000).parallel().filter(n -> n % 7 == 0).count());
        var queue = new LinkedBlockingQueue<String>(2);
        var producer = new Thread(() -> { try { for (var word : List.of("a", "b", "c", "d", "")) queue.put(word); } catch (InterruptedException e) { } });
        producer.start();
        for (String word; !(word = queue.take()).isEmpty();) System.out.print(word);
        System.out.println(CompletableFuture.supplyAsync(() -> 6).thenCombine(CompletableFuture.supplyAsync(() -> 7), (a, b) -> a * b).get());
        Path dir = Files.createTempDirectory("java"), file = dir.resolve("file");
        Files.writeString(file, "one\ntwo\n"); Files.writeString(file, "three\n", StandardOpenOption.APPEND);
        System.out.println(Files.readAllLines(file)); Files.delete(file); Files.delete(dir);
        var child = new ProcessBuilder("tr", "a-z", "A-Z").start();
        try (var to = child.outputWriter()) { to.write("from java\n"); }
        System.out.print(new String(child.getInputStream().readAllBytes())); System.out.println(child.waitFor());
        var timer = Executors.newSingleThreadScheduledExecutor();
        System.out.println(timer.schedule(() -> "later", 20, TimeUnit.MILLISECONDS).get()); timer.shutdownNow();
        try { Object none = null; none.toString(); } catch (NullPointerException e) { System.out.println("null"); }
        try { deep(0); } catch (StackOverflowError e) { System.out.println("the stack is full"); }
        System.gc(); Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("at exit"))); System.exit(4);
    }
    static int deep(int n) { return deep(n + 1) + 1; }
}
