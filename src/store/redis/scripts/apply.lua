-- Carries out batches one after the other, each operation in order. The script is atomic.

local names = tonumber(ARGV[OWN])
local next_arg = OWN + 1 + names
local all, outcomes = {}, nil

local function arg()
  next_arg = next_arg + 1
  return ARGV[next_arg - 1]
end
local function number() return tonumber(arg()) end
local function named() return topic(ARGV[OWN + arg()]) end
-- A text that is given has a `=` in front; an empty argument means none.
local function text()
  local value = arg()
  return value ~= '' and string.sub(value, 2) or nil
end

local WORDS = {
  p = function(t) return put(t, arg()) end,
  P = function(t)
    local body, rank, ttl, wait, dedupe = arg(), number(), number(), number(), text()
    return put(t, body, rank, ttl, wait, dedupe)
  end,
  a = function(t) return ack(t, number(), number()) end,
  n = function(t) return nack(t, number(), number(), number()) end,
  u = function(t) return give_back_unread(t, number(), number()) end,
  b = function(t)
    local m, deliveries = {id = number()}, number()
    m.rank, m.expires, m.from, m.from_id, m.body = number(), number(), text(), number(), arg()
    return put_back(t, m, deliveries)
  end,
  k = function(t) return peek(t) end,
  d = function(t) return delete(t, number()) end,
  g = function(t) return purge(t) end,
  s = function(t)
    local stopped, refused = number(), make(t)
    if refused then return {REFUSED, refused} end
    t.stopped = stopped
    t.returned = t.returned or stopped == 0
    return {DONE}
  end,
  y = function(t)
    local policy, refused = number(), make(t)
    if refused then return {REFUSED, refused} end
    t.policy = policy
    return {DONE}
  end,
  i = function(t)
    local m = {}
    m.id, m.rank, m.expires = number(), number(), number()
    local deliveries, looks = number(), number()
    m.from, m.from_id, m.body = text(), number(), arg()
    return import(t, m, deliveries, looks)
  end,
  l = function(t)
    local due, rank, ttl = number(), number(), number()
    return import_for_later(t, arg(), due, rank, ttl)
  end,
  m = function(t) return advance(t, number()) end,
}

-- The number of arguments of each command, after its topic.
local ARGS = {
  p = 1, P = 5, t = 2, a = 2, n = 3, u = 2, b = 7, k = 0, d = 1, g = 0, s = 1, y = 1,
  i = 8, l = 4, m = 1,
}

-- Without memory, puts are refused and everything else is done: acks free memory, and a lease,
-- which needs a little, precedes its ack.
local asked = redis.pcall('LPUSHX', PREFIX .. 'nowhere', '')
if type(asked) == 'table' and string.find(asked.err, 'OOM', 1, true) then
  S.no_memory = true
  allow_writes_without_memory()
end

while next_arg <= #ARGV do
  local word = arg()
  if word == '/' then
    outcomes, S.taken_bytes = {}, 0
    all[#all + 1] = outcomes
  elseif S.taken_bytes >= TAKEN_BYTES then
    -- The batch has taken its limit of bytes. The server sends the rest again.
    next_arg = next_arg + 1 + ARGS[word]
  elseif word == 't' then
    local t, lease, wanted = named(), number(), number()
    takes(t, outcomes, lease, wanted)
  else
    outcomes[#outcomes + 1] = WORDS[word](named())
  end
end
keep_bound()
return {finish(), all}
