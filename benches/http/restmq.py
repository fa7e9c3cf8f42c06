"""The shape of the Python RestMQ: one asynchronous web server over one Redis, which it asks once for
each thing that it has to know or to do, as RestMQ's core does. restmq.py PORT REDIS_PORT.
"""

import json
import sys

from aiohttp import web
from redis.asyncio import Redis

PORT, REDIS_PORT = map(int, sys.argv[1:])
redis = Redis(host="127.0.0.1", port=REDIS_PORT, decode_responses=True)


async def add(request):
    queue = request.match_info["queue"]
    value = (await request.post())["value"]
    await redis.sadd("QUEUESET", queue)
    key = f"{queue}:{await redis.incr(f'{queue}:UUID')}"
    await redis.set(key, value)
    await redis.lpush(f"{queue}:queue", key)
    return web.Response(text=key + "\r\n")


async def take(request):
    queue = request.match_info["queue"]
    key = await redis.rpop(f"{queue}:queue")
    if key is None:
        return web.Response(status=204)
    value = await redis.get(key)
    await redis.delete(key)
    body = json.dumps({"value": value, "key": key, "count": 0}) + "\r\n"
    return web.Response(text=body, content_type="application/json")


app = web.Application()
app.add_routes([web.post("/q/{queue}", add), web.get("/q/{queue}", take)])
web.run_app(app, host="127.0.0.1", port=PORT, print=None, access_log=None)
