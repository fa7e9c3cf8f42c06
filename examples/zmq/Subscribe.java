// Prints the next greeting: java -cp jeromq.jar examples/zmq/Subscribe.java [PORT]
import org.zeromq.ZContext;
import org.zeromq.ZMQ;

class Subscribe {
    public static void main(String[] args) {
        try (ZContext context = new ZContext()) {
            ZMQ.Socket socket = context.createSocket(ZMQ.SUB);
            socket.connect("tcp://127.0.0.1:" + (args.length > 0 ? args[0] : "30008"));
            socket.subscribe("greetings ".getBytes(ZMQ.CHARSET));
            System.out.println(socket.recvStr());
        }
    }
}
