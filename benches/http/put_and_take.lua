-- What wrk asks: a value is added to a queue, and the next is taken, in turn.

local body = "value=" .. string.rep("x", 100)
local headers = { ["Content-Type"] = "application/x-www-form-urlencoded" }
local add, take, adds

function init(_)
  add = wrk.format("POST", "/q/compare", headers, body)
  take = wrk.format("GET", "/q/compare")
end

function request()
  adds = not adds
  return adds and add or take
end
