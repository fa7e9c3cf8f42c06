-- Reads; this script changes nothing.

local how, name = ARGV[OWN], ARGV[OWN + 1]
local first, second = ARGV[OWN + 2], ARGV[OWN + 3]
local t = name ~= '' and topic(name) or nil

local function messages(found)
  local reply = {}
  for _, m in ipairs(found) do
    local message = {m.id, m.expires or 0, m.body}
    if m.from then message[4], message[5] = m.from, m.from_id end
    reply[#reply + 1] = message
  end
  return reply
end

-- The state of topics, in the format of an update (see `finish` in store.lua).
local function known(topics)
  local lines = {concat({
    '- ', int(S.born), ' ', int(S.now), ' ', int(S.last), ' ', int(next_due()), ' ', int(S.bytes),
  })}
  for _, t in ipairs(topics) do
    if t.made then
      lines[#lines + 1] = concat({t.name, '\n0 ', concat(t.text, ' ')})
    end
  end
  return concat(lines, '\n')
end

if how == 'run' then
  return messages(range(t, int(tonumber(first) + 1), tonumber(second), RUN_BYTES))
elseif how == 'last' then
  return messages(range(t, '+', tonumber(first), HISTORY_BYTES, true))
elseif how == 'ends' then
  local oldest, newest = range(t, '-', 1, 0)[1], range(t, '+', 1, 0, true)[1]
  return {oldest and oldest.id or 0, newest and newest.id or 0}
elseif how == 'delayed' then
  local found, size = {}, 0
  local rows = call('ZRANGE', key(t, 'delayed'), 0, tonumber(first) - 1, 'WITHSCORES')
  for i = 1, #rows, 2 do
    local body = cmsgpack.unpack(call('HGET', key(t, 'later'), rows[i]))[1]
    size = size + #body
    if #found > 0 and size > HISTORY_BYTES then break end
    found[#found + 1] = {id = tonumber(rows[i + 1]), body = body}
  end
  return messages(found)
elseif how == 'kept' then
  return kept(t, tonumber(first))
elseif how == 'later' then
  return kept_for_later(t, tonumber(first), tonumber(second))
elseif how == 'topic' then
  return {known({t})}
end
-- 'topics': some of all topics, from a cursor of SSCAN.
local scanned = call('SSCAN', PREFIX .. 'topics', first, 'COUNT', 500)
local topics = {}
for i, found in ipairs(scanned[2]) do topics[i] = topic(found) end
return {known(topics), scanned[1]}
