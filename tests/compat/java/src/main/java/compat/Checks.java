package compat;

import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/** Named checks with deadlines; prints a line for each and `N passed, N failed, N skipped` at the end. */
final class Checks {
    /** The body of a check. */
    interface Body {
        void run() throws Exception;
    }

    private record Check(String name, int seconds, Body body) {}

    private final List<Check> checks = new ArrayList<>();

    void add(String name, int seconds, Body body) {
        checks.add(new Check(name, seconds, body));
    }

    /** Runs the checks whose name starts with one of the prefixes (all, without any); true if none failed. */
    boolean run(List<String> prefixes) {
        int passed = 0;
        int failed = 0;
        for (Check check : checks) {
            if (!prefixes.isEmpty() && prefixes.stream().noneMatch(check.name::startsWith)) {
                continue;
            }
            long began = System.nanoTime();
            String problem = problemOf(check);
            double seconds = (System.nanoTime() - began) / 1e9;
            if (problem == null) {
                passed++;
                System.out.printf("  ok    %s (%.1f s)%n", check.name, seconds);
            } else {
                failed++;
                System.out.printf("  FAIL  %s (%.1f s): %s%n", check.name, seconds, problem);
            }
        }
        System.out.printf("%d passed, %d failed, 0 skipped%n", passed, failed);
        return failed == 0 && passed > 0;
    }

    private static String problemOf(Check check) {
        var thread = Executors.newSingleThreadExecutor(body -> {
            Thread made = new Thread(body, check.name);
            made.setDaemon(true);
            return made;
        });
        Future<?> done = thread.submit((Callable<Void>) () -> {
            check.body.run();
            return null;
        });
        try {
            done.get(check.seconds, TimeUnit.SECONDS);
            return null;
        } catch (TimeoutException late) {
            done.cancel(true);
            return "not done after " + check.seconds + " s";
        } catch (ExecutionException failed) {
            return describe(failed.getCause());
        } catch (InterruptedException interrupted) {
            return "interrupted";
        } finally {
            thread.shutdownNow();
        }
    }

    private static String describe(Throwable error) {
        String where = "";
        for (StackTraceElement frame : error.getStackTrace()) {
            if (frame.getClassName().startsWith("compat.") && !frame.getClassName().equals("compat.Checks")) {
                where = " [" + frame.getFileName() + ":" + frame.getLineNumber() + "]";
                break;
            }
        }
        String text = error instanceof AssertionError ? error.getMessage() : error.toString();
        return (text + where).replace('\n', ' ');
    }

    static void expect(boolean condition, String text) {
        if (!condition) {
            throw new AssertionError(text);
        }
    }

    static void equal(Object actual, Object wanted, String what) {
        if (!Objects.equals(actual, wanted)) {
            throw new AssertionError(what + ": " + actual + ", wanted " + wanted);
        }
    }

    /** Polls until the condition holds. */
    static void waitFor(String what, int seconds, Callable<Boolean> condition) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(seconds);
        while (!condition.call()) {
            expect(System.nanoTime() < deadline, "waited " + seconds + " s for " + what);
            Thread.sleep(50);
        }
    }

    /** Runs the call, which must fail with the given cause. */
    static <E extends Throwable> E fails(Class<E> wanted, String what, Callable<?> call) {
        Object value;
        try {
            value = call.call();
        } catch (Exception error) {
            Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
            if (wanted.isInstance(cause)) {
                return wanted.cast(cause);
            }
            throw new AssertionError(what + ": " + cause + ", wanted " + wanted.getSimpleName());
        }
        throw new AssertionError(what + ": no error but " + value + ", wanted " + wanted.getSimpleName());
    }
}
