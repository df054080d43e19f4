package fuyun.runtime;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;

/** The method that a handler names, and how it is called. */
final class Target {
    private static final String FORMS = "(InputStream, OutputStream), (String), (byte[]), (Map), (List), (Object) or (),"
        + " each with an optional Context or Map at its end";

    /** What is wrong with a handler's name or its method. */
    static final class Missing extends Exception {
        private static final long serialVersionUID = 1;

        Missing(String text) {
            super(text);
        }
    }

    private final Method method;
    private Object instance;

    private Target(Method method) {
        this.method = method;
    }

    /** The method of `handler`, CLASS::METHOD, or `handle` of CLASS. No code of its class runs. */
    static Target find(String handler) throws Missing {
        int colons = handler.indexOf("::");
        String className = colons < 0 ? handler : handler.substring(0, colons);
        String name = colons < 0 ? "handle" : handler.substring(colons + 2);
        Class<?> found = load(className);
        boolean named = false;
        for (Class<?> type = found; type != null; type = type.getSuperclass()) {
            for (Method method : type.getDeclaredMethods()) {
                boolean candidate = method.getName().equals(name) && !method.isBridge();
                named |= candidate;
                if (candidate && fits(method.getParameterTypes()) && !Modifier.isAbstract(method.getModifiers())) {
                    method.setAccessible(true);
                    return new Target(method);
                }
            }
        }
        throw new Missing(className + (named ? "::" + name + " takes none of " : " has no method " + name + " with ")
            + FORMS);
    }

    /** See that the class has a main method that `java` starts. No code of it runs. */
    static void findMain(String className) throws Missing {
        try {
            int modifiers = load(className).getMethod("main", String[].class).getModifiers();
            if (Modifier.isStatic(modifiers)) {
                return;
            }
        } catch (NoSuchMethodException e) {
            // told below
        }
        throw new Missing(className + " has no method public static main(String[])");
    }

    private static Class<?> load(String className) throws Missing {
        try {
            return Class.forName(className, false, Target.class.getClassLoader());
        } catch (ClassNotFoundException e) {
            throw new Missing("there is no class " + className + " in the code's classes and JARs");
        }
    }

    private static boolean fits(Class<?>[] types) {
        int count = types.length;
        if (count > 0 && (types[count - 1] == Context.class || (count > 1 && types[count - 1] == Map.class))) {
            count--;
        }
        if (count == 2) {
            return types[0] == InputStream.class && types[1] == OutputStream.class;
        }
        return count == 0 || (count == 1 && List.of(String.class, byte[].class, Map.class, List.class, Object.class)
            .contains(types[0]));
    }

    /** Make the instance that an instance method needs; static initialisers run now at the latest. */
    void prepare() throws Throwable {
        Class<?> type = method.getDeclaringClass();
        try {
            Class.forName(type.getName(), true, type.getClassLoader());
            if (!Modifier.isStatic(method.getModifiers())) {
                var made = type.getDeclaredConstructor();
                made.setAccessible(true);
                instance = made.newInstance();
            }
        } catch (InvocationTargetException | ExceptionInInitializerError e) {
            throw e.getCause() == null ? e : e.getCause();
        } catch (NoSuchMethodException e) {
            throw new Missing(type.getName() + " has no constructor without parameters; add one, or make "
                + method.getName() + " static");
        }
    }

    /** The result for an event: bytes as they are, anything else to be written as JSON. What the method throws. */
    Object call(byte[] event, Context context) throws Throwable {
        Class<?>[] types = method.getParameterTypes();
        Object[] values = new Object[types.length];
        ByteArrayOutputStream written = null;
        for (int i = 0; i < types.length; i++) {
            if (types[i] == OutputStream.class) {
                written = new ByteArrayOutputStream();
                values[i] = written;
            } else if (types[i] == Context.class) {
                values[i] = context;
            } else {
                values[i] = i > 0 ? context.toMap() : argument(types[i], event);
            }
        }
        Object result;
        try {
            result = method.invoke(instance, values);
        } catch (InvocationTargetException e) {
            throw e.getCause();
        }
        return written != null ? written.toByteArray() : result;
    }

    private static Object argument(Class<?> type, byte[] event) {
        if (type == InputStream.class) {
            return new ByteArrayInputStream(event);
        }
        if (type == byte[].class) {
            return event;
        }
        String text = new String(event, StandardCharsets.UTF_8);
        if (type == String.class) {
            return text;
        }
        Object value = Json.parse(text);
        if (value != null && !type.isInstance(value)) {
            throw new IllegalArgumentException("the event is " + text.substring(0, Math.min(80, text.length()))
                + ", the handler takes a " + type.getSimpleName());
        }
        return value;
    }
}
