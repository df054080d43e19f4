package words;

import java.util.Map;
import java.util.TreeMap;

/** How often each word stands in a text. */
public final class Count {
    /** The event is a text, or an HTTP request with one as its body. */
    public static Map<String, Integer> handle(Object event) {
        Object text = event instanceof Map ? ((Map<?, ?>) event).get("body") : event;
        if (!(text instanceof String) || ((String) text).isBlank()) {
            throw new IllegalArgumentException("there are no words; send a text");
        }
        Map<String, Integer> counted = new TreeMap<>();
        for (String word : ((String) text).toLowerCase().split("\\W+")) {
            if (!word.isEmpty()) {
                counted.merge(word, 1, Integer::sum);
            }
        }
        System.out.println(counted.size() + " different words");
        return counted;
    }
}
