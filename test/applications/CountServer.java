import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * `CountServer PORT`: answers as tcpcount does (test/workloads/tcpcount.c), one thread for each connection. Each line makes
 * garbage and runs code that the compilers find hot; the line "verify", on a connection of its own, asks for a verdict.
 */
public final class CountServer {
    private static final int KEPT = 2000;
    private static final int TICK_MS = 100;
    private static final int FIBONACCI_15 = 610;

    private final ConcurrentHashMap<Long, long[]> kept = new ConcurrentHashMap<>();
    private final AtomicLong next = new AtomicLong(KEPT);
    private final AtomicLong answers = new AtomicLong();
    private final AtomicLong ticks = new AtomicLong();
    private final AtomicLong miscounts = new AtomicLong();

    private static long[] valueOf(long key) {
        long[] value = new long[64];
        for (int i = 0; i < value.length; i++) value[i] = key * 31 + i;
        return value;
    }

    private static int fibonacci(int n) {
        return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
    }

    private void count() {
        long key = next.getAndIncrement();
        kept.remove(key - KEPT);
        kept.put(key, valueOf(key));
        answers.incrementAndGet();
    }

    private void tick() {
        ticks.incrementAndGet();
        if (fibonacci(15) != FIBONACCI_15) miscounts.incrementAndGet();
    }

    private String verdict() {
        long broken = kept.entrySet().stream()
            .filter(entry -> !java.util.Arrays.equals(entry.getValue(), valueOf(entry.getKey()))).count();
        boolean fine = broken == 0 && miscounts.get() == 0 && ticks.get() > 0;
        return "verify " + (fine ? "ok" : "BAD") + " answers=" + answers + " ticks=" + ticks + " broken=" + broken
            + " miscounts=" + miscounts;
    }

    private void serve(Socket socket) {
        try (socket) {
            socket.setTcpNoDelay(true);
            BufferedReader in = new BufferedReader(
                new InputStreamReader(socket.getInputStream(), StandardCharsets.US_ASCII));
            OutputStream out = socket.getOutputStream();
            long lines = 0;
            for (String line; (line = in.readLine()) != null;) {
                String answer;
                if (line.equals("verify")) {
                    answer = verdict();
                } else {
                    count();
                    answer = line + " " + ++lines;
                }
                out.write((answer + "\n").getBytes(StandardCharsets.US_ASCII));
            }
        } catch (java.io.IOException error) {
            // The client is gone, as its own record says.
            System.out.println("connection ended: " + error.getMessage());
        }
    }

    public static void main(String[] arguments) throws Exception {
        CountServer server = new CountServer();
        for (long key = 0; key < KEPT; key++) server.kept.put(key, valueOf(key));
        Executors.newScheduledThreadPool(1)
            .scheduleAtFixedRate(server::tick, TICK_MS, TICK_MS, TimeUnit.MILLISECONDS);
        try (ServerSocket listener = new ServerSocket(Integer.parseInt(arguments[0]))) {
            System.out.println("java ready port=" + arguments[0]);
            for (;;) {
                Socket socket = listener.accept();
                new Thread(() -> server.serve(socket)).start();
            }
        }
    }
}
