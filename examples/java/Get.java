// Waits for a greeting and prints the reply, which is JSON: java examples/java/Get.java [PORT]
import java.io.InputStreamReader;
import java.io.Reader;
import java.net.Socket;

class Get {
    public static void main(String[] args) throws Exception {
        int port = args.length > 0 ? Integer.parseInt(args[0]) : 30008;
        try (Socket socket = new Socket("127.0.0.1", port)) {
            String get = "{\"action\":\"get\",\"topic\":\"greetings\",\"wait\":60}";
            socket.getOutputStream().write(get.getBytes("UTF-8"));
            System.out.println(object(new InputStreamReader(socket.getInputStream(), "UTF-8")));
        }
    }

    /** An object ends with the brace that closes it, unless that stands in a string. */
    static String object(Reader in) throws Exception {
        StringBuilder text = new StringBuilder();
        int depth = 0;
        boolean string = false;
        boolean escaped = false;
        for (int c = in.read(); c >= 0; c = in.read()) {
            text.append((char) c);
            if (escaped) {
                escaped = false;
            } else if (string) {
                escaped = c == '\\';
                string = c != '"';
            } else if (c == '"') {
                string = true;
            } else if (c == '{') {
                depth++;
            } else if (c == '}' && --depth == 0) {
                break;
            }
        }
        return text.toString();
    }
}
