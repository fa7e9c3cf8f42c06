-- The beginning of every script: loads the partition's state and topics, writes changes back, and
-- publishes them. The constants in capitals come before it.

local call, format, concat = redis.call, string.format, table.concat
local PREFIX = string.sub(KEYS[1], 1, -6) -- KEYS[1] ends in 'store'
local IS_CLUSTER = ARGV[8] == '1'
-- Index of the first argument that is the script's own.
local OWN = 9

-- While a slot migrates, missing keys may be on the other node. EXISTS on a missing key then
-- fails, and the script stops before it changes anything.
if IS_CLUSTER and type(redis.pcall('EXISTS', PREFIX .. 'nowhere')) == 'table' then
  return redis.error_reply('TRYAGAIN this partition is moving to another node')
end

local S = {
  max_bytes = tonumber(ARGV[3]),
  drops = ARGV[4] == '1',
  keep = tonumber(ARGV[5]),
  dead_after = tonumber(ARGV[6]),
  max_topics = tonumber(ARGV[7]),
  taken_bytes = 0,
  topics = {},
  touched = {},
}

-- Without memory (maxmemory), Redis refuses a script whose first write may use some, but no write
-- after an accepted one. So a script that must work begins with a write that uses none.
local function allow_writes_without_memory() call('UNLINK', PREFIX .. 'nowhere') end

-- Redis would format large numbers with an exponent.
local function int(number) return format('%.0f', number) end
local function padded(id) return format('%016.0f', id) end

do
  local values = call('HMGET', KEYS[1], 'last', 'bytes', 'topic_bytes', 'delays', 'born')
  S.last = tonumber(values[1]) or 0
  S.bytes = tonumber(values[2]) or 0
  S.topic_bytes = tonumber(values[3]) or 0
  S.delays = tonumber(values[4]) or 0
  S.was = {S.last, S.bytes, S.topic_bytes, S.delays}
  S.now = tonumber(ARGV[2])
  if not S.now then
    local time = call('TIME')
    S.now = time[1] * 1000000 + time[2]
  end
  S.next_id = math.max(S.last + 1, S.now)
  -- The creation time identifies the store: a store lost and created anew has another.
  S.born = tonumber(values[5]) or 0
end

-- The fields of a topic, in the order of updates.
local FIELDS = {
  'version', 'purges', 'removals', 'newest', 'taken_to', 'length', 'bytes', 'in_line', 'ready',
  'leased', 'delayed', 'delayed_bytes', 'puts', 'takes', 'dropped', 'looks', 'back', 'stopped',
  'policy',
}

local function key(t, kind) return PREFIX .. kind .. ':' .. t.name end

-- Loads a topic, which may not exist yet.
local function topic(name)
  local t = S.topics[name]
  if t then return t end
  t = {name = name, due = math.huge}
  t.log = key(t, 'log')
  local values = call('HMGET', key(t, 'topic'), unpack(FIELDS))
  t.made = values[1] ~= false
  t.was, t.text = {}, {}
  for i, field in ipairs(FIELDS) do
    local value = tonumber(values[i]) or 0
    t[field], t.was[i], t.text[i] = value, value, values[i] or '0'
  end
  S.topics[name] = t
  S.touched[#S.touched + 1] = t
  return t
end

local function topic_weight(name) return TOPIC_BYTES + 2 * #name end

-- Creates the topic if it does not exist; returns the reason if it cannot.
local function make(t)
  if t.made then return nil end
  if call('SCARD', PREFIX .. 'topics') >= S.max_topics then return 'topics' end
  if S.max_bytes and S.topic_bytes + topic_weight(t.name) > S.max_bytes / TOPICS_SHARE then
    return 'topic_bytes'
  end
  call('SADD', PREFIX .. 'topics', t.name)
  S.topic_bytes = S.topic_bytes + topic_weight(t.name)
  S.bytes = S.bytes + topic_weight(t.name)
  t.made = true
  return nil
end

-- Schedules due work of the topic.
local function due_at(t, at) t.due = math.min(t.due, at) end

-- Decodes an entry of the log.
local function entry(found)
  local fields = found[2]
  local m = {id = tonumber(string.sub(found[1], 1, -3)), body = fields[2]}
  for i = 3, #fields, 2 do
    local name, value = fields[i], fields[i + 1]
    if name == 'topic' then m.from = value else m[name] = tonumber(value) end
  end
  m.size = #m.body
  return m
end

-- Decodes a message that was put back. It is outside the log, because a stream accepts only higher
-- ids.
local function unpack_back(packed, id)
  local body, rank, expires, from, from_id = unpack(cmsgpack.unpack(packed))
  local m = {id = id, body = body, size = #body, rank = rank, back = true}
  if expires > 0 then m.expires = expires end
  if from ~= '' then m.from, m.from_id = from, from_id end
  return m
end

local function load(t, id)
  local found = call('XRANGE', t.log, int(id), int(id))[1]
  if found then return entry(found) end
  local packed = t.back > 0 and call('HGET', key(t, 'back'), padded(id))
  return packed and unpack_back(packed, id) or nil
end

local function expired(m) return m.expires and m.expires <= S.now end

-- How many messages to read at once, so that they do not exceed this size by much.
local function some(t, most, bytes)
  local mean = math.max(t.bytes / math.max(t.length, 1), 1)
  return math.max(1, math.min(most, math.ceil(bytes / mean)))
end

-- Messages of the log from an id on, at most this many bytes, but at least one; and whether there
-- may be more. With `all`, including expired ones.
local function from_log(t, from, limit, bytes, newest_first, all)
  local found, size, command = {}, 0, newest_first and 'XREVRANGE' or 'XRANGE'
  local last = newest_first and '-' or '+'
  while true do
    local wanted = some(t, limit - #found, bytes - size)
    local rows = call(command, t.log, from, last, 'COUNT', wanted)
    for _, row in ipairs(rows) do
      local m = entry(row)
      from = int(newest_first and m.id - 1 or m.id + 1)
      if all or not expired(m) then
        if #found > 0 and size + m.size > bytes then return found, true end
        found[#found + 1], size = m, size + m.size
        if #found >= limit then return found, true end
      end
    end
    if #rows < wanted then return found, false end
  end
end

-- The same for messages that were put back, of which there are few.
local function from_back(t, from, newest_first, all)
  local found, ids = {}, nil
  if newest_first then
    ids = call('ZREVRANGEBYSCORE', key(t, 'backs'), from == '+' and '+inf' or from, '-inf')
  else
    ids = call('ZRANGEBYSCORE', key(t, 'backs'), from == '-' and '-inf' or from, '+inf')
  end
  for _, id in ipairs(ids) do
    local m = unpack_back(call('HGET', key(t, 'back'), id), tonumber(id))
    if all or not expired(m) then found[#found + 1] = m end
  end
  return found
end

-- A topic's messages in order of id, or newest first.
local function range(t, from, limit, bytes, newest_first, all)
  local found, more = from_log(t, from, limit, bytes, newest_first, all)
  if t.back == 0 then return found end
  local order = function(a, b)
    if newest_first then return a.id > b.id end
    return a.id < b.id
  end
  local last = found[#found]
  for _, m in ipairs(from_back(t, from, newest_first, all)) do
    if not more or order(m, last) then found[#found + 1] = m end
  end
  table.sort(found, order)
  local size = 0
  for i, m in ipairs(found) do
    size = size + m.size
    if i > limit or (i > 1 and size > bytes) then
      for rest = #found, i, -1 do found[rest] = nil end
      break
    end
  end
  return found
end

-- Writes a topic's changed fields; returns its part of the update: the name, flags and fields,
-- then the ids of messages put back.
local function save(t)
  local changed, line = {}, t.text
  t.version = t.version + 1
  if t.removed then t.removals = t.removals + 1 end
  for i, field in ipairs(FIELDS) do
    if t[field] ~= t.was[i] then
      line[i] = int(t[field])
      changed[#changed + 1], changed[#changed + 2] = field, line[i]
    end
  end
  call('HSET', key(t, 'topic'), unpack(changed))
  if t.due < math.huge then
    call('ZADD', PREFIX .. 'due', 'LT', int(t.due), t.name)
  end
  local flags = (t.put and 1 or 0) + (t.returned and 2 or 0)
  local told = concat({t.name, '\n', flags, ' ', concat(line, ' ')})
  return t.put_backs and concat({told, ' ', concat(t.put_backs, ' ')}) or told
end

local function is_changed(t)
  if t.put or t.returned or t.removed or t.due < math.huge then return true end
  for i, field in ipairs(FIELDS) do
    if t[field] ~= t.was[i] then return true end
  end
  return false
end

-- The next time at which `tick` has work.
local function next_due()
  local due = MAX_DUE
  local first = call('ZRANGE', PREFIX .. 'due', 0, 0, 'WITHSCORES')
  if first[2] then due = tonumber(first[2]) end
  if S.keep then
    local oldest = call('ZRANGE', PREFIX .. 'oldest', 0, 0, 'WITHSCORES')
    if oldest[2] then due = math.min(due, tonumber(oldest[2]) + S.keep) end
  end
  if S.more then due = math.min(due, math.max(S.now, S.more)) end
  return due
end

-- Writes all changes; publishes the update and returns it.
local function finish()
  local lines = {}
  if S.born == 0 then
    S.born = S.now
    call('HSET', KEYS[1], 'born', int(S.born))
  end
  for _, t in ipairs(S.touched) do
    if t.made and is_changed(t) then lines[#lines + 1] = save(t) end
  end
  local is = {S.last, S.bytes, S.topic_bytes, S.delays}
  if is[1] ~= S.was[1] or is[2] ~= S.was[2] or is[3] ~= S.was[3] or is[4] ~= S.was[4] then
    call('HSET', KEYS[1], 'last', int(S.last), 'bytes', int(S.bytes),
      'topic_bytes', int(S.topic_bytes), 'delays', int(S.delays))
  end
  local head = concat({
    ARGV[1], ' ', int(S.born), ' ', int(S.now), ' ', int(S.last), ' ', int(next_due()), ' ',
    int(S.bytes),
  })
  if #lines == 0 then return head end
  local told = head .. '\n' .. concat(lines, '\n')
  call(IS_CLUSTER and 'SPUBLISH' or 'PUBLISH', PREFIX .. 'news', told)
  return told
end
