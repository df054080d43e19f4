package fuyun.runtime;

import java.util.LinkedHashMap;
import java.util.Map;

/** What a handler may know about its invocation besides the event. */
public final class Context {
    private final String requestId;
    private final long deadlineMs;
    private final String traceId;
    private final String credential;

    Context(String requestId, long deadlineMs, String traceId, String credential) {
        this.requestId = requestId;
        this.deadlineMs = deadlineMs;
        this.traceId = traceId;
        this.credential = credential;
    }

    /** The invocation's number, the one of the logs. */
    public String getRequestId() {
        return requestId;
    }

    public String getFunctionName() {
        return System.getenv("FUYUN_FUNCTION");
    }

    public String getFunctionVersion() {
        return System.getenv("FUYUN_VERSION");
    }

    public String getNamespace() {
        return System.getenv("FUYUN_NAMESPACE");
    }

    /** The instance's memory limit in MiB. */
    public int getMemoryLimitInMB() {
        return Integer.parseInt(System.getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"));
    }

    /** When the invocation is cut off, in milliseconds since 1970. */
    public long getDeadlineMs() {
        return deadlineMs;
    }

    /** Milliseconds until the invocation is cut off, at least 0. */
    public long getRemainingTimeInMillis() {
        return Math.max(0, deadlineMs - System.currentTimeMillis());
    }

    /** The trace the request belongs to, as X-Ray writes it; "" without one. */
    public String getTraceId() {
        return traceId;
    }

    /** What proves to the platform's address (FUYUN_ENDPOINT) that this invocation asks; "" without permissions. */
    public String getCredential() {
        return credential;
    }

    /** The same as a map, without the credential, for code that is compiled without this class. */
    public Map<String, Object> toMap() {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("requestId", requestId);
        map.put("functionName", getFunctionName());
        map.put("functionVersion", getFunctionVersion());
        map.put("namespace", getNamespace());
        map.put("memoryLimitInMB", getMemoryLimitInMB());
        map.put("deadlineMs", deadlineMs);
        map.put("traceId", traceId);
        return map;
    }
}
