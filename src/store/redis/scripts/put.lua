-- Puts: new, delayed and duplicate messages, and messages returned unread.

-- Adds a stored message to the counters.
local function count(t, id, size)
  if t.length == 0 then
    call('ZADD', PREFIX .. 'oldest', int(id), t.name)
  end
  t.length, t.bytes = t.length + 1, t.bytes + size
  S.bytes = S.bytes + size + MESSAGE_BYTES
end

-- Makes the message available by its rank.
local function make_ready(t, rank, id, deliveries)
  call('ZADD', key(t, 'ready'), rank, padded(id))
  if deliveries > 0 then call('HSET', key(t, 'tries'), padded(id), deliveries) end
  t.ready = t.ready + 1
end

-- Writes a message to the log and counts it.
local function write(t, id, body, rank, expires, from, from_id)
  if rank or expires or from then
    local fields = {t.log, int(id), 'message', body}
    local function add(name, value)
      if value then fields[#fields + 1], fields[#fields + 2] = name, value end
    end
    add('rank', rank)
    add('expires', expires and int(expires))
    add('topic', from)
    add('from_id', from_id and int(from_id))
    call('XADD', unpack(fields))
    if expires then
      call('ZADD', key(t, 'expiries'), int(expires), padded(id))
      due_at(t, expires)
    end
  else
    call('XADD', t.log, int(id), 'message', body)
  end
  count(t, id, #body)
end

-- Appends a message to the log; returns its id and the id before it.
local function append(t, body, rank, ttl, from, from_id)
  local id = S.next_id
  S.next_id, S.last = id + 1, id
  write(t, id, body, rank, ttl and S.now + ttl, from, from_id)
  local after = t.newest
  t.newest, t.puts, t.put = id, t.puts + 1, true
  if rank then make_ready(t, rank, id, 0) else t.in_line = t.in_line + 1 end
  return id, after
end

-- The reason why a message of this size has no room; nil if it has, or dropping will make room.
local function no_room(size)
  if S.no_memory then return 'no_memory' end
  if not S.max_bytes then return nil end
  local needed = size + MESSAGE_BYTES
  if S.bytes + needed <= S.max_bytes then return nil end
  if S.drops and needed <= S.max_bytes and call('ZCARD', PREFIX .. 'oldest') > 0 then return nil end
  return 'full'
end

local function delay(t, body, at, rank, ttl)
  S.delays = S.delays + 1
  local number = padded(S.delays)
  call('ZADD', key(t, 'delayed'), int(at), number)
  call('HSET', key(t, 'later'), number, cmsgpack.pack({body, rank or -1, ttl or -1}))
  t.delayed, t.delayed_bytes = t.delayed + 1, t.delayed_bytes + #body
  S.bytes = S.bytes + #body + MESSAGE_BYTES
  due_at(t, at)
end

-- The outcome of the first put with this key within the dedupe period.
local function duplicate(t, dedupe)
  local first = call('HGET', key(t, 'firsts'), dedupe)
  if not first then return nil end
  local till, kind, value = string.match(first, '^(%d+) (%a) (%d+)$')
  if tonumber(till) <= S.now then return nil end
  return {kind == 'i' and DUPLICATE or DUE_DUPLICATE, tonumber(value)}
end

local function remember(t, dedupe, kind, value)
  local till = S.now + DEDUPE
  call('HSET', key(t, 'firsts'), dedupe, concat({int(till), ' ', kind, ' ', int(value)}))
  call('ZADD', key(t, 'dedupe'), int(till), dedupe)
  due_at(t, till)
end

local function put(t, body, rank, ttl, wait, dedupe)
  local refused = no_room(t.made and #body or #body + topic_weight(t.name))
  local first = dedupe and t.made and duplicate(t, dedupe)
  if first then return first end
  refused = refused or make(t)
  if refused then return {REFUSED, refused} end
  if wait and wait > 0 then
    delay(t, body, S.now + wait, rank, ttl)
    if dedupe then remember(t, dedupe, 'd', S.now + wait) end
    return {DUE, S.now + wait}
  end
  local id, after = append(t, body, rank, ttl)
  if dedupe then remember(t, dedupe, 'i', id) end
  return {STORED, id, after}
end

-- Returns a message that was taken without a lease under its id, as if it had not been taken.
local function put_back(t, m, deliveries)
  local refused = make(t)
  if refused then return {REFUSED, refused} end
  local packed = cmsgpack.pack({m.body, m.rank, m.expires or 0, m.from or '', m.from_id or 0})
  call('HSET', key(t, 'back'), padded(m.id), packed)
  call('ZADD', key(t, 'backs'), int(m.id), padded(m.id))
  t.back = t.back + 1
  count(t, m.id, #m.body)
  call('ZADD', PREFIX .. 'oldest', 'LT', int(m.id), t.name)
  if m.expires then
    call('ZADD', key(t, 'expiries'), int(m.expires), padded(m.id))
    due_at(t, m.expires)
  end
  make_ready(t, m.rank, m.id, deliveries - 1)
  t.takes = t.takes - 1
  t.put_backs = t.put_backs or {}
  t.put_backs[#t.put_backs + 1] = int(m.id)
  -- Chunks read meanwhile do not contain it.
  t.removed, t.returned = true, true
  return {DONE}
end
