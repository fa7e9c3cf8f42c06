-- Copies between stores: complete messages, read and written.

-- The last id in the log: the next import must be above it. XSETID makes the stream forget the ids
-- of removed entries, so that they do not matter.
local function tail(t)
  if t.tail_as_of ~= t.newest then
    local last = call('XREVRANGE', t.log, '+', '-', 'COUNT', 1)[1]
    if last then
      t.tail = tonumber(string.sub(last[1], 1, -3))
      call('XSETID', t.log, last[1])
    else
      t.tail = 0
      call('UNLINK', t.log)
    end
    t.tail_as_of = t.newest
  end
  return t.tail
end

-- Records that ids of the topic up to this one have been assigned.
local function given_out(t, id)
  t.newest = math.max(t.newest, id)
  S.last = math.max(S.last, id)
  S.next_id = math.max(S.next_id, id + 1)
end

-- Imports a message of another store under its id there.
local function import(t, m, deliveries, looks)
  local refused = no_room(t.made and #m.body or #m.body + topic_weight(t.name)) or make(t)
  if refused then return {REFUSED, refused} end
  if m.id <= tail(t) then return {REFUSED, 'not_behind'} end
  if not m.rank and (deliveries > 0 or m.id <= t.taken_to) then m.rank = RANK_DEFAULT end
  write(t, m.id, m.body, m.rank, m.expires, m.from, m.from_id)
  if m.id < t.newest then
    call('ZADD', PREFIX .. 'oldest', 'LT', int(m.id), t.name)
    -- Chunks read before do not contain it.
    t.removed = true
  end
  given_out(t, m.id)
  t.tail, t.tail_as_of, t.put = m.id, t.newest, true
  if m.rank then make_ready(t, m.rank, m.id, deliveries) else t.in_line = t.in_line + 1 end
  if looks > 0 then
    call('HSET', key(t, 'looks'), padded(m.id), looks)
    t.looks = t.looks + 1
  end
  return {DONE}
end

-- Imports a delayed message.
local function import_for_later(t, body, due, rank, ttl)
  local refused = no_room(t.made and #body or #body + topic_weight(t.name)) or make(t)
  if refused then return {REFUSED, refused} end
  delay(t, body, due, rank, ttl)
  return {DONE}
end

local function advance(t, id)
  local refused = make(t)
  if refused then return {REFUSED, refused} end
  given_out(t, id)
  return {DONE}
end

-- Messages of the log after an id, including leased and expired ones.
local function kept(t, after)
  local found = range(t, int(after + 1), COPY_MESSAGES, COPY_BYTES, false, true)
  local ids, reply = {}, {}
  for i, m in ipairs(found) do ids[i] = padded(m.id) end
  local function known(kind, count)
    if count == 0 or #ids == 0 then return {} end
    return call('HMGET', key(t, kind), unpack(ids))
  end
  local tries, held, looks = known('tries', t.ready), known('held', t.leased), known('looks', t.looks)
  for i, m in ipairs(found) do
    local deliveries = tries[i] or held[i] and string.match(held[i], '^%d+ %d (%d+)') or 0
    reply[i] = {
      m.id, m.expires or 0, m.body, m.rank or RANK_DEFAULT, tonumber(deliveries),
      tonumber(looks[i] or 0), m.from or '', m.from_id or 0,
    }
  end
  return reply
end

-- Delayed messages after the one with this due time and number.
local function kept_for_later(t, due, number)
  local first, size, reply = 0, 0, {}
  if number > 0 then
    local place = call('ZRANK', key(t, 'delayed'), padded(number))
    first = place and place + 1 or call('ZCOUNT', key(t, 'delayed'), '-inf', int(due))
  end
  local rows = call('ZRANGE', key(t, 'delayed'), int(first), int(first + COPY_MESSAGES - 1),
    'WITHSCORES')
  for i = 1, #rows, 2 do
    local body, rank, ttl = unpack(cmsgpack.unpack(call('HGET', key(t, 'later'), rows[i])))
    if size >= COPY_BYTES then break end
    size = size + #body
    reply[#reply + 1] = {
      tonumber(rows[i + 1]), tonumber(rows[i]), body, rank >= 0 and rank or RANK_DEFAULT, ttl,
    }
  end
  return reply
end
