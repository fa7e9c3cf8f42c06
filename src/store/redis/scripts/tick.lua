-- Due work: ends leases, puts delayed messages, removes expired ones and old dedupe keys. Each run
-- is limited, so that other calls are not held up.

allow_writes_without_memory()
local due = call('ZRANGEBYSCORE', PREFIX .. 'due', '-inf', int(S.now), 'LIMIT', 0, DUE_TOPICS)

-- Due rows of one kind, in order of time.
local function all(kind)
  local found = {}
  for _, name in ipairs(due) do
    local t = topic(name)
    local rows = call('ZRANGEBYSCORE', key(t, kind), '-inf', int(S.now), 'WITHSCORES',
      'LIMIT', 0, DUE_ROWS)
    for i = 1, #rows, 2 do
      found[#found + 1] = {t = t, member = rows[i], at = tonumber(rows[i + 1])}
    end
  end
  table.sort(found, function(a, b)
    if a.at ~= b.at then return a.at < b.at end
    return a.member < b.member
  end)
  for i = #found, DUE_ROWS + 1, -1 do found[i] = nil end
  return found
end

for _, ended in ipairs(all('leases')) do
  local lease = held(ended.t, tonumber(ended.member))
  if lease then give_back(ended.t, lease) else call('ZREM', key(ended.t, 'leases'), ended.member) end
end
local put_bytes = 0
for _, later in ipairs(all('delayed')) do
  if put_bytes >= TAKEN_BYTES then break end
  local t = later.t
  local body, rank, ttl = unpack(cmsgpack.unpack(call('HGET', key(t, 'later'), later.member)))
  call('ZREM', key(t, 'delayed'), later.member)
  call('HDEL', key(t, 'later'), later.member)
  t.delayed, t.delayed_bytes = t.delayed - 1, t.delayed_bytes - #body
  S.bytes, put_bytes = S.bytes - #body - MESSAGE_BYTES, put_bytes + #body
  append(t, body, rank >= 0 and rank or nil, ttl >= 0 and ttl or nil)
end
for _, late in ipairs(all('expiries')) do
  call('ZREM', key(late.t, 'expiries'), late.member)
  expire(late.t, tonumber(late.member))
end
for _, old in ipairs(all('dedupe')) do
  call('ZREM', key(old.t, 'dedupe'), old.member)
  call('HDEL', key(old.t, 'firsts'), old.member)
end
if S.keep then
  local left = DROPS
  while left > 0 do
    local dropped = drop_oldest(S.now - S.keep, left, math.huge)
    if not dropped then break end
    left = left - dropped
  end
  if left <= 0 then S.more = S.now end
end
keep_bound()
-- Computes the next due time of each topic.
for _, name in ipairs(due) do
  local t = topic(name)
  local first = math.huge
  for _, kind in ipairs({'leases', 'delayed', 'expiries', 'dedupe'}) do
    local row = call('ZRANGE', key(t, kind), 0, 0, 'WITHSCORES')
    if row[2] then first = math.min(first, tonumber(row[2])) end
  end
  t.due = math.huge
  if first < math.huge then
    call('ZADD', PREFIX .. 'due', int(first), name)
  else
    call('ZREM', PREFIX .. 'due', name)
  end
end
return {finish()}
