# common can be found under the "examples" folder
from common import *  
  
from o3mq.config import PORT_SUB  
from o3mq.backend import zmq  
from o3mq.pubsub import SubSocketType  
  
context = zmq.Context()  
socket = context.socket(SubSocketType.REQ.value)  
socket.connect("tcp://localhost:%s" % PORT_SUB)  
  
topic = "o3"  
message = "Hello"  
priority = "5"  
socket.send_string("%s %s %s" % (topic, message, priority))
