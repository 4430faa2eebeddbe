-- One step of the limits: what is over (corrections, releases) first, then all of the claims or none.
-- KEYS: the claims' windows, the place (if any), the corrections' windows, the releases' places.
-- ARGV: how many of each; then per claim amount, milliseconds, cost; per place amount, milliseconds, holder;
-- per correction end of its window (Unix ms), by, milliseconds; per release holder.
-- Returns: what was refused (0 nothing, else its number), then per claim used, milliseconds left, end (Unix ms).
local claims, places = tonumber(ARGV[1]), tonumber(ARGV[2])
local corrections, releases = tonumber(ARGV[3]), tonumber(ARGV[4])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local key, at = claims + places, 4 + 3 * (claims + places)
for _ = 1, corrections do
  key = key + 1
  local left = redis.call('PTTL', KEYS[key])
  local by = tonumber(ARGV[at + 2])
  -- two windows of one key end at least a second apart; clocks within one server do not
  if left > 0 and (by > 0 or math.abs(now + left - tonumber(ARGV[at + 1])) < 100) then
    if redis.call('INCRBY', KEYS[key], by) < 0 then
      redis.call('SET', KEYS[key], 0, 'KEEPTTL')
    end
  elseif left <= 0 and by > 0 then
    redis.call('SET', KEYS[key], by, 'PX', ARGV[at + 3])
  end
  at = at + 3
end
for _ = 1, releases do
  key = key + 1
  at = at + 1
  redis.call('ZREM', KEYS[key], ARGV[at])
end

local refused, answer = 0, {0}
for number = 1, claims do
  local first = 2 + 3 * number
  local used = tonumber(redis.call('GET', KEYS[number]) or 0)
  local left = math.max(redis.call('PTTL', KEYS[number]), 0)
  if left == 0 then
    used = 0
  end
  answer[3 * number - 1], answer[3 * number] = used, left
  if refused == 0 and used + tonumber(ARGV[first + 2]) > tonumber(ARGV[first]) then
    refused = number
  end
end
local place, about = KEYS[claims + 1], 5 + 3 * claims
if places == 1 then
  redis.call('ZREMRANGEBYSCORE', place, '-inf', now)
  if refused == 0 and redis.call('ZCARD', place) >= tonumber(ARGV[about]) then
    refused = claims + 1
  end
end
answer[1] = refused
for number = 1, claims do
  local first = 2 + 3 * number
  if refused == 0 then
    local cost = ARGV[first + 2]
    if answer[3 * number] > 0 then
      answer[3 * number - 1] = redis.call('INCRBY', KEYS[number], cost)
    else
      redis.call('SET', KEYS[number], cost, 'PX', ARGV[first + 1])
      answer[3 * number - 1], answer[3 * number] = tonumber(cost), tonumber(ARGV[first + 1])
    end
  end
  answer[3 * number + 1] = now + answer[3 * number]
end
if refused == 0 and places == 1 then
  redis.call('ZADD', place, now + tonumber(ARGV[about + 1]), ARGV[about + 2])
  redis.call('PEXPIRE', place, ARGV[about + 1])
end
return answer
