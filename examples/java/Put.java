// Puts a greeting: java examples/java/Put.java [PORT]
import java.net.Socket;

class Put {
    public static void main(String[] args) throws Exception {
        int port = args.length > 0 ? Integer.parseInt(args[0]) : 30008;
        try (Socket socket = new Socket("127.0.0.1", port)) {
            String put = "{\"action\":\"put\",\"topic\":\"greetings\",\"message\":\"Hello from Java!\"}";
            socket.getOutputStream().write(put.getBytes("UTF-8"));
        }
    }
}
