import fuyun.runtime.Context;
import java.util.Map;

public class App {
    public Map<String, Object> handle(Map<String, Object> event, Context context) {
        System.out.println("greeting, " + context.getRemainingTimeInMillis() + " ms left");
        Object name = event == null ? null : event.get("name");
        return Map.of("message", "Hello, " + (name == null ? "world" : name) + "!");
    }
}
