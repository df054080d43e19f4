package fuyun.runtime;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** JSON as RFC 8259 has it: objects are maps, arrays lists, numbers Long, BigInteger or Double. */
final class Json {
    private static final int DEEPEST = 500;

    private final String text;
    private int at;
    private int depth;

    private Json(String text) {
        this.text = text;
    }

    /** The value that `text` writes. IllegalArgumentException says what is wrong, and where. */
    static Object parse(String text) {
        Json json = new Json(text);
        Object value = json.value();
        json.blanks();
        if (json.at < text.length()) {
            throw json.wrong("text after the value");
        }
        return value;
    }

    /** `value` as JSON. IllegalArgumentException for what JSON cannot hold. */
    static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out, 0);
        return out.toString();
    }

    private static void write(Object value, StringBuilder out, int depth) {
        if (depth > DEEPEST) {
            throw new IllegalArgumentException("the result is nested deeper than " + DEEPEST + " levels");
        }
        if (value == null || value instanceof Boolean) {
            out.append(value);
        } else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum) {
            quote(value.toString(), out);
        } else if (value instanceof Number) {
            number((Number) value, out);
        } else if (value instanceof Map) {
            String comma = "{";
            for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
                out.append(comma);
                quote(String.valueOf(entry.getKey()), out);
                out.append(':');
                write(entry.getValue(), out, depth + 1);
                comma = ",";
            }
            out.append(comma.equals("{") ? "{}" : "}");
        } else if (value instanceof Iterable) {
            String comma = "[";
            for (Object item : (Iterable<?>) value) {
                out.append(comma);
                write(item, out, depth + 1);
                comma = ",";
            }
            out.append(comma.equals("[") ? "[]" : "]");
        } else if (value.getClass().isArray()) {
            List<Object> items = new ArrayList<>();
            for (int i = 0; i < java.lang.reflect.Array.getLength(value); i++) {
                items.add(java.lang.reflect.Array.get(value, i));
            }
            write(items, out, depth + 1);
        } else {
            throw new IllegalArgumentException("a result of " + value.getClass().getName()
                + " cannot be written as JSON; return a Map, a List, a String, a number, byte[] or null");
        }
    }

    private static void number(Number value, StringBuilder out) {
        if ((value instanceof Double || value instanceof Float) && !Double.isFinite(value.doubleValue())) {
            throw new IllegalArgumentException(value + " is not a number of JSON");
        }
        out.append(value);
    }

    private static void quote(String text, StringBuilder out) {
        out.append('"');
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                out.append('\\').append(c);
            } else if (c < ' ' || Character.isSurrogate(c)) {
                out.append("\\u");
                String digits = Integer.toHexString(c);
                out.append("0000", digits.length(), 4).append(digits);
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    private Object value() {
        blanks();
        switch (peek()) {
            case '{':
                return object();
            case '[':
                return array();
            case '"':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Map<String, Object> object() {
        Map<String, Object> found = new LinkedHashMap<>();
        enter();
        if (!closes('}')) {
            do {
                blanks();
                String key = string();
                blanks();
                if (peek() != ':') {
                    throw wrong("no colon");
                }
                at++;
                found.put(key, value());
            } while (goesOn('}'));
        }
        depth--;
        return found;
    }

    private List<Object> array() {
        List<Object> found = new ArrayList<>();
        enter();
        if (!closes(']')) {
            do {
                found.add(value());
            } while (goesOn(']'));
        }
        depth--;
        return found;
    }

    private void enter() {
        at++;
        if (++depth > DEEPEST) {
            throw wrong("more than " + DEEPEST + " levels");
        }
    }

    private boolean closes(char end) {
        blanks();
        if (peek() != end) {
            return false;
        }
        at++;
        return true;
    }

    private boolean goesOn(char end) {
        if (closes(end)) {
            return false;
        }
        if (peek() != ',') {
            throw wrong("neither a comma nor " + end);
        }
        at++;
        return true;
    }

    private String string() {
        if (peek() != '"') {
            throw wrong("no string");
        }
        int end = ++at;
        StringBuilder found = null;
        while (true) {
            if (end >= text.length() || text.charAt(end) < ' ') {
                at = end;
                throw wrong("a string without its end");
            }
            char c = text.charAt(end);
            if (c == '"') {
                String rest = text.substring(at, end);
                at = end + 1;
                return found == null ? rest : found.append(rest).toString();
            }
            if (c == '\\') {
                found = found == null ? new StringBuilder() : found;
                found.append(text, at, end);
                at = end + 1;
                found.append(escaped());
                end = at;
            } else {
                end++;
            }
        }
    }

    private char escaped() {
        char c = peek();
        at++;
        int plain = "\"\\/bfnrt".indexOf(c);
        if (plain >= 0) {
            return "\"\\/\b\f\n\r\t".charAt(plain);
        }
        if (c == 'u' && at + 4 <= text.length()) {
            try {
                at += 4;
                return (char) Integer.parseInt(text, at - 4, at, 16);
            } catch (NumberFormatException e) {
                throw wrong("an escape that is not hexadecimal");
            }
        }
        throw wrong("an unknown escape");
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) {
            throw wrong("no value");
        }
        at += word.length();
        return value;
    }

    private Object number() {
        int start = at;
        boolean whole = true;
        while (at < text.length() && "+-.eE0123456789".indexOf(text.charAt(at)) >= 0) {
            whole &= ".eE".indexOf(text.charAt(at)) < 0;
            at++;
        }
        String found = text.substring(start, at);
        try {
            if (!whole) {
                double value = Double.parseDouble(found);
                return Double.isFinite(value) ? (Object) value : new BigDecimal(found);
            }
            return found.length() < 19 ? (Object) Long.parseLong(found) : new BigInteger(found);
        } catch (NumberFormatException e) {
            at = start;
            throw wrong("no value");
        }
    }

    private void blanks() {
        while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char peek() {
        if (at >= text.length()) {
            throw wrong("the end");
        }
        return text.charAt(at);
    }

    private IllegalArgumentException wrong(String found) {
        return new IllegalArgumentException("the event is not JSON: " + found + " at character " + at);
    }
}
