# common can be found under the "examples" folder
from common import *  
  
from o3mq.config import PORT_PUB  
from o3mq.backend import zmq  
from o3mq.pubsub import SubSocketType  
  
context = zmq.Context()  
socket = context.socket(SubSocketType.SUB.value)  
  
print("Waiting for message …")  
socket.connect("tcp://localhost:%s" % PORT_PUB)  
  
socket.setsockopt_string(SubSocketType.SUBSCRIBE.value, "o3")  
  
msg = socket.recv_string()  
print(msg)
