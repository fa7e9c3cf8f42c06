import org.zeromq.ZContext;
import org.zeromq.ZMQ;

/** Subscribes by prefix on the port that O3one's programs call pub, and ends with the first message. */
public class Subscribe {
    public static void main(String[] arguments) {
        try (ZContext context = new ZContext()) {
            System.out.println("Subscribe to the server");
            ZMQ.Socket socket = context.createSocket(ZMQ.SUB);
            socket.connect("tcp://localhost:5555");
            socket.subscribe("o3".getBytes(ZMQ.CHARSET));
            System.out.println(socket.recvStr(0).trim());
        }
    }
}
