-- Takes: which message a taker receives, its lease, and how it is returned or acked.

-- Updates the counters for a message that has left the log.
local function forget(t, m)
  if m.expires then call('ZREM', key(t, 'expiries'), padded(m.id)) end
  t.removed = true
  t.length, t.bytes = t.length - 1, t.bytes - m.size
  S.bytes = S.bytes - m.size - MESSAGE_BYTES
  if t.looks > 0 and call('HDEL', key(t, 'looks'), padded(m.id)) == 1 then
    t.looks = t.looks - 1
  end
end

-- Removes a message, if it is still there.
local function remove(t, m)
  if call('XDEL', t.log, int(m.id)) == 0 then
    if t.back == 0 or call('HDEL', key(t, 'back'), padded(m.id)) == 0 then return end
    call('ZREM', key(t, 'backs'), padded(m.id))
    t.back = t.back - 1
  end
  forget(t, m)
end

local function begin_lease(t, m, lease, deliveries, rank)
  local till = S.now + lease
  local id = padded(m.id)
  call('ZADD', key(t, 'leases'), int(till), id)
  call('HSET', key(t, 'held'), id,
    format('%.0f 1 %d %d %d %.0f', till, deliveries, rank, m.size, m.expires or 0))
  t.leased = t.leased + 1
  due_at(t, till)
end

local function taken(t, m, deliveries, rank)
  t.takes = t.takes + 1
  S.taken_bytes = S.taken_bytes + m.size
  local outcome = {TAKEN, m.id, deliveries, rank, m.expires or 0, m.body}
  if m.from then outcome[7], outcome[8] = m.from, m.from_id end
  return outcome
end

-- Takes messages in the order of the log, up to but not including the id `before`; false if there
-- are none.
local function take_line(t, outcomes, lease, most, before)
  local rows = call('XRANGE', t.log, int(t.taken_to + 1), before and int(before - 1) or '+',
    'COUNT', some(t, math.min(most, RUN_MESSAGES), RUN_BYTES))
  if #rows == 0 then return false end
  -- If every message is in line, the taken ones are a prefix of the log and can be trimmed.
  local all_in_line = t.length == t.in_line and t.back == 0
  local gone = {}
  for _, row in ipairs(rows) do
    local m = entry(row)
    t.taken_to = m.id
    if not m.rank then
      t.in_line = t.in_line - 1
      local late = expired(m)
      if not lease then
        gone[#gone + 1] = int(m.id)
        forget(t, m)
      end
      -- With a lease, expired messages are left for `tick` to remove.
      if not late then
        if lease then begin_lease(t, m, lease, 1, RANK_DEFAULT) end
        outcomes[#outcomes + 1] = taken(t, m, 1, RANK_DEFAULT)
        if S.taken_bytes >= TAKEN_BYTES then break end
      end
    end
  end
  if #gone > 0 then
    if all_in_line then
      call('XTRIM', t.log, 'MINID', int(t.taken_to + 1))
    else
      call('XDEL', t.log, unpack(gone))
    end
  end
  return true
end

local function take_ready(t, outcomes, lease, rank, id)
  local member = padded(id)
  call('ZREM', key(t, 'ready'), member)
  t.ready = t.ready - 1
  local deliveries = (tonumber(call('HGET', key(t, 'tries'), member) or nil) or 0) + 1
  if deliveries > 1 then call('HDEL', key(t, 'tries'), member) end
  local m = load(t, id)
  if not m then return end
  if expired(m) then return remove(t, m) end
  if lease then begin_lease(t, m, lease, deliveries, rank) else remove(t, m) end
  outcomes[#outcomes + 1] = taken(t, m, deliveries, rank)
end

-- Takes one message by rank, or several in log order; false if there are none.
local function take_some(t, outcomes, lease, most)
  local first = t.ready > 0 and call('ZRANGE', key(t, 'ready'), 0, 0, 'WITHSCORES') or {}
  local id, rank = tonumber(first[1]), tonumber(first[2])
  if t.in_line > 0 and (not rank or rank >= RANK_DEFAULT) then
    -- A returned message of default priority keeps its place by id.
    local before = rank == RANK_DEFAULT and id or nil
    if take_line(t, outcomes, lease, most, before) then return true end
  end
  if not id then return false end
  take_ready(t, outcomes, lease, rank, id)
  return true
end

-- Takes this many messages of one topic. Adds fewer outcomes if the batch reaches its limit of
-- bytes.
local function takes(t, outcomes, lease, wanted)
  local till = #outcomes + wanted
  if t.made then
    while #outcomes < till do
      if not take_some(t, outcomes, lease, till - #outcomes) then break end
      if S.taken_bytes >= TAKEN_BYTES then return end
    end
  end
  for i = #outcomes + 1, till do outcomes[i] = {NOTHING} end
end

-- The lease of a message; with `deliveries`, only if that delivery's lease is still valid.
local function held(t, id, deliveries)
  local text = t.made and call('HGET', key(t, 'held'), padded(id))
  if not text then return nil end
  local till, live, times, rank, size, expires =
    string.match(text, '^(%d+) (%d) (%d+) (%d+) (%d+) (%d+)$')
  local lease = {
    id = id, deliveries = tonumber(times), rank = tonumber(rank), size = tonumber(size),
  }
  if expires ~= '0' then lease.expires = tonumber(expires) end
  if not deliveries then return lease end
  if live == '1' and tonumber(till) > S.now and lease.deliveries == deliveries then
    return lease, text
  end
  return nil
end

local function end_lease(t, id)
  call('ZREM', key(t, 'leases'), padded(id))
  call('HDEL', key(t, 'held'), padded(id))
  t.leased = t.leased - 1
end

-- Moves a message to the dead-letter topic; false if that is not possible.
local function bury(t, lease, m)
  if S.dead_after == 0 or lease.deliveries < S.dead_after then return false end
  local suffix = -#DEAD_SUFFIX
  if string.sub(t.name, suffix) == DEAD_SUFFIX or #t.name + #DEAD_SUFFIX > NAME_BYTES then
    return false
  end
  local dead = topic(t.name .. DEAD_SUFFIX)
  if make(dead) then return false end
  remove(t, m)
  append(dead, m.body, nil, nil, t.name, m.id)
  return true
end

-- Ends a lease: the message becomes available again, or a dead letter.
local function give_back(t, lease)
  end_lease(t, lease.id)
  t.returned = true
  local m = load(t, lease.id)
  -- An expired message is left for `tick`, or removed already.
  if not m or expired(m) or bury(t, lease, m) then return end
  make_ready(t, lease.rank, lease.id, lease.deliveries)
end

local function ack(t, id, deliveries)
  local lease = held(t, id, deliveries)
  if not lease then return {REFUSED, 'gone'} end
  end_lease(t, id)
  remove(t, lease)
  return {DONE}
end

local function nack(t, id, deliveries, wait)
  local lease, text = held(t, id, deliveries)
  if not lease then return {REFUSED, 'gone'} end
  if wait == 0 then
    give_back(t, lease)
    return {DONE}
  end
  local till = S.now + wait
  call('ZADD', key(t, 'leases'), int(till), padded(id))
  call('HSET', key(t, 'held'), padded(id), (string.gsub(text, '^%d+ 1', int(till) .. ' 0')))
  due_at(t, till)
  return {DONE}
end

-- Ends the lease of a message that did not reach its taker; this does not count as a delivery.
local function give_back_unread(t, id, deliveries)
  local lease = held(t, id, deliveries)
  if not lease then return {REFUSED, 'gone'} end
  end_lease(t, id)
  t.takes, t.returned = t.takes - 1, true
  if load(t, id) then make_ready(t, lease.rank, id, deliveries - 1) end
  return {DONE}
end

local function peek(t)
  local m = t.made and range(t, '-', 1, 0)[1]
  if not m then return {NO_LOOK} end
  local looks = call('HINCRBY', key(t, 'looks'), padded(m.id), 1)
  if looks == 1 then t.looks = t.looks + 1 end
  S.taken_bytes = S.taken_bytes + m.size
  local outcome = {LOOK, m.id, looks, 0, m.expires or 0, m.body}
  if m.from then outcome[7], outcome[8] = m.from, m.from_id end
  return outcome
end
