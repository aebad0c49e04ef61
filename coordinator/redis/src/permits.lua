-- The permits of one key: the rules of coordinator::KeyState.
--
-- KEYS: what is known of the key (limit, last token, last ticket), its holders (request -> "slot:token"), its waiters
-- by ticket. ARGV: operation, channel of grants, name of the key, then what the operation needs.
local known, holders, waiters = KEYS[1], KEYS[2], KEYS[3]
local operation, channel, key = ARGV[1], ARGV[2], ARGV[3]

-- What nobody holds or waits for is forgotten after a day; tokens go on by the clock, so they don't fall back then.
local IDLE_SECONDS = 86400

local function next_token()
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local last = tonumber(redis.call('HGET', known, 'token') or '0')
  local token = string.format('%.0f', math.max(now, last + 1))
  redis.call('HSET', known, 'token', token)
  return token
end

local function lowest_free()
  local taken = {}
  for _, grant in ipairs(redis.call('HVALS', holders)) do
    taken[tonumber(string.match(grant, '^%d+'))] = true
  end
  local slot = 0
  while taken[slot] do
    slot = slot + 1
  end
  return slot
end

local function hold(request, slot)
  local grant = string.format('%.0f', slot) .. ':' .. next_token()
  redis.call('HSET', holders, request, grant)
  return grant
end

-- Whoever fits now is granted a permit, in order; everybody is told, except about the one who gets it as an answer.
local function grant_free(asking)
  local limit = tonumber(redis.call('HGET', known, 'limit') or '0')
  while redis.call('HLEN', holders) < limit do
    local first = redis.call('ZPOPMIN', waiters)
    if not first[1] then
      break
    end
    local grant = hold(first[1], lowest_free())
    if first[1] ~= asking then
      redis.call('PUBLISH', channel, cjson.encode({ key, first[1], grant }))
    end
  end
end

local function settle()
  if redis.call('HLEN', holders) == 0 and redis.call('ZCARD', waiters) == 0 then
    redis.call('EXPIRE', known, IDLE_SECONDS)
  else
    redis.call('PERSIST', known)
  end
end

local function ask(limit, request, wait, most_waiters)
  local asking = nil
  if redis.call('HEXISTS', holders, request) == 0 and not redis.call('ZSCORE', waiters, request) then
    local waiting = redis.call('ZCARD', waiters)
    local fits = redis.call('HLEN', holders) + waiting < tonumber(limit)
    if wait == '1' and not fits and waiting >= tonumber(most_waiters) then
      return { 'overfull' }
    end
    asking = request
    redis.call('ZADD', waiters, redis.call('HINCRBY', known, 'ticket', 1), request)
  end
  redis.call('HSET', known, 'limit', limit)
  grant_free(asking)
  local grant = redis.call('HGET', holders, request)
  if grant then
    return { 'granted', grant }
  end
  if wait == '1' then
    return { 'queued' }
  end
  redis.call('ZREM', waiters, request)
  return { 'busy' }
end

local function restore(limit, list)
  local before = {}
  local all = redis.call('HGETALL', holders)
  for at = 1, #all, 2 do
    before[all[at]] = all[at + 1]
  end
  redis.call('DEL', holders)
  for _, holder in ipairs(cjson.decode(list)) do
    local request, slot = holder[1], holder[2]
    redis.call('ZREM', waiters, request)
    local grant = before[request]
    if grant and tonumber(string.match(grant, '^%d+')) == slot then
      redis.call('HSET', holders, request, grant)
    else
      hold(request, slot)
    end
  end
  redis.call('HSET', known, 'limit', limit)
  grant_free(nil)
end

local answer = { 'done' }
if operation == 'ask' then
  answer = ask(ARGV[4], ARGV[5], ARGV[6], ARGV[7])
elseif operation == 'release' then
  redis.call('ZREM', waiters, ARGV[4])
  redis.call('HDEL', holders, ARGV[4])
  grant_free(nil)
elseif operation == 'restore' then
  restore(ARGV[4], ARGV[5])
end
settle()
return answer
