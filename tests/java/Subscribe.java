import org.zeromq.SocketType;
import org.zeromq.ZContext;
import org.zeromq.ZMQ;

/** The program of O3one's document, in a class. */
public class Subscribe {
    public static void main(String[] args) {
try (ZContext context = new ZContext()) {  
  System.out.println("Subscribe to the server");  
  ZMQ.Socket subscriber = context.createSocket(SocketType.SUB);  
  // Connecting to the "Pub" port
  subscriber.connect("tcp://localhost:5555");  
  // Getting the default topic
  String sub = "o3";  
  subscriber.subscribe(sub.getBytes(ZMQ.CHARSET));  
  // Receiving some data & printing it
  String string = subscriber.recvStr(0).trim();  
  System.out.println(string);  
}
    }
}
