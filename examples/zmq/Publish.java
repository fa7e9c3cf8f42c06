// Publishes a greeting: java -cp jeromq.jar examples/zmq/Publish.java [PORT]
import org.zeromq.ZContext;
import org.zeromq.ZMQ;

class Publish {
    public static void main(String[] args) {
        String answer;
        try (ZContext context = new ZContext()) {
            ZMQ.Socket socket = context.createSocket(ZMQ.REQ);
            socket.connect("tcp://127.0.0.1:" + (args.length > 0 ? args[0] : "30008"));
            socket.send("greetings Hello from jeromq!");
            answer = socket.recvStr();
        }
        if (!answer.equals("OK")) {
            System.err.println(answer);
            System.exit(1);
        }
    }
}
