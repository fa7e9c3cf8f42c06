-- Removal: one message by its id, a whole topic, and the oldest messages of any topic.

-- Makes a message unavailable by its rank.
local function unready(t, id)
  if t.ready > 0 and call('ZREM', key(t, 'ready'), padded(id)) == 1 then
    t.ready = t.ready - 1
    call('HDEL', key(t, 'tries'), padded(id))
  end
end

-- Makes a message unavailable to takers, and ends its lease.
local function withdraw(t, id)
  if t.leased > 0 and call('ZREM', key(t, 'leases'), padded(id)) == 1 then
    call('HDEL', key(t, 'held'), padded(id))
    t.leased = t.leased - 1
  end
  unready(t, id)
end

-- Removes a message; returns whether it was still in line.
local function discard(t, m)
  remove(t, m)
  local in_line = not m.rank and m.id > t.taken_to
  if in_line then t.in_line = t.in_line - 1 end
  return in_line
end

local function delete(t, id)
  local m = t.made and load(t, id)
  if not m then return {DELETED, 0} end
  if not discard(t, m) then withdraw(t, id) end
  return {DELETED, 1}
end

-- Removes an expired message. Its lease remains, so that the taker can still ack.
local function expire(t, id)
  local m = load(t, id)
  if m and not discard(t, m) then unready(t, id) end
end

local KINDS = {
  'log', 'ready', 'tries', 'leases', 'held', 'delayed', 'later', 'expiries', 'dedupe', 'firsts',
  'looks', 'back', 'backs',
}

local function purge(t)
  if not t.made then return {PURGED, 0} end
  local purged = t.length + t.delayed
  S.bytes = S.bytes - t.bytes - t.delayed_bytes - purged * MESSAGE_BYTES
  local keys = {}
  for i, kind in ipairs(KINDS) do keys[i] = key(t, kind) end
  call('UNLINK', unpack(keys))
  call('ZREM', PREFIX .. 'due', t.name)
  call('ZREM', PREFIX .. 'oldest', t.name)
  for _, field in ipairs({
    'length', 'bytes', 'in_line', 'ready', 'leased', 'delayed', 'delayed_bytes', 'looks', 'back',
  }) do
    t[field] = 0
  end
  t.purges, t.taken_to, t.removed, t.due = t.purges + 1, t.newest, true, math.huge
  return {PURGED, purged}
end

-- Removes the topic's oldest messages up to an id, leased or not, until this number of messages or
-- bytes is reached; at least one.
local function drop_run(t, to, rows, bytes)
  local freed, dropped = 0, 0
  for _, m in ipairs(range(t, '-', math.min(rows, DROP_RUN), DROP_BYTES, false, true)) do
    if m.id > to or freed >= bytes then break end
    if not discard(t, m) then withdraw(t, m.id) end
    freed, dropped = freed + m.size + MESSAGE_BYTES, dropped + 1
  end
  t.dropped = t.dropped + dropped
  local oldest = t.length > 0 and range(t, '-', 1, 0, false, true)[1]
  if oldest then
    call('ZADD', PREFIX .. 'oldest', int(oldest.id), t.name)
  else
    call('ZREM', PREFIX .. 'oldest', t.name)
  end
  return dropped
end

-- Removes some of the oldest messages of the partition, up to an id; returns how many, or nil if
-- there are none.
local function drop_oldest(to, rows, bytes)
  while true do
    local first = call('ZRANGE', PREFIX .. 'oldest', 0, 1, 'WITHSCORES')
    if not first[1] or tonumber(first[2]) > to then return nil end
    local t = topic(first[1])
    local oldest = t.length > 0 and range(t, '-', 1, 0, false, true)[1]
    local last = math.min(to, tonumber(first[4]) or math.huge)
    if not oldest then
      call('ZREM', PREFIX .. 'oldest', t.name)
    elseif oldest.id > last then
      call('ZADD', PREFIX .. 'oldest', int(oldest.id), t.name)
    else
      return drop_run(t, last, rows, bytes)
    end
  end
end

-- Drops the oldest messages until the partition is within its bound, or this run has reached its
-- limit.
local function keep_bound()
  if not S.drops or not S.max_bytes then return end
  local left = DROPS
  while left > 0 and S.bytes > S.max_bytes do
    local dropped = drop_oldest(math.huge, left, S.bytes - S.max_bytes)
    if not dropped then return end
    left = left - dropped
  end
  if S.bytes > S.max_bytes then S.more = S.now end
end
