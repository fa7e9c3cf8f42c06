# The first client of Mezzenger's README, as it is printed there.
import time, random
import mezzenger_client
mc = mezzenger_client.Mezzenger(server_address='127.0.0.1', auto_start=False)
people = ['John', 'David', 'Lucy']
while True:
  mc.send_message('greetings', 'Hello %s!' % random.choice(people))
  time.sleep(3)
