# The second client of Mezzenger's README, as it is printed there but for the parentheses of print.
import mezzenger_client

def callback(payload, msg_obj):
  print(payload)
  
mc = mezzenger_client.Mezzenger(server_address='127.0.0.1')
mc.subscribe('greetings', callback)
