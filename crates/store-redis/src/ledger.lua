-- One decision of a quota ledger on this server's clock. Times are microseconds.
-- The algorithm is that of lyceum-queue's reference ledger.
--
-- KEYS: 1 state, 2 replicas, 3 running calls, 4 buckets
-- ARGV: 1 operation, 2 window, 3 jitter, 4 burst, 5 dead after, 6 grace, 7 argument (JSON)

local state_key, replicas_key, calls_key, buckets_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local window, jitter = tonumber(ARGV[2]), tonumber(ARGV[3])
local burst, dead_after, grace = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local arg = cjson.decode(ARGV[7])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

local KINDS = 4
local BUCKETS = 256
local PACES = 256
local PACE_LEAD = 1.01
-- How far a replica may be ahead of one that waits, as a share of a window's quota.
local LEAD = 0.01
-- Standard deviations that all calls in flight may be above what is likely.
local CONFIDENCE = 3.5
-- The share of the limit that a pause may leave to be caught up at once.
local CATCH_UP = 0.03
-- How long a replica that was told to come back is waited for beyond that.
local PATIENCE = 100000
local SHORTEST, LONGEST = 2000, 250000
local FULL = 1e300

local width = math.max(math.floor(window / BUCKETS), 1)
local ring = math.ceil((window + jitter) / width) + 2

local function int(number) return string.format('%.0f', number) end
local function float(number) return string.format('%.17g', number) end

-- State -------------------------------------------------------------------------------

local SCALARS = { 'epoch', 'opens', 'paused', 'served' }
local FIELDS = { 'counted', 'held', 'oldest', 'limit', 'credit', 'pace', 'paced', 'pace_until' }
local names = {}
for _, name in ipairs(SCALARS) do names[#names + 1] = name end
for kind = 1, KINDS do
  for _, field in ipairs(FIELDS) do names[#names + 1] = field .. kind end
end
local raw = redis.call('HMGET', state_key, unpack(names))
local state, windows = {}, {}
for i, name in ipairs(SCALARS) do state[name] = tonumber(raw[i] or false) end
for kind = 1, KINDS do
  local w = { kind = kind }
  for i, field in ipairs(FIELDS) do
    w[field] = tonumber(raw[#SCALARS + (kind - 1) * #FIELDS + i] or false) or 0
  end
  if not raw[#SCALARS + (kind - 1) * #FIELDS + 1] then
    w.oldest, w.credit, w.paced = math.floor(now / width), FULL, now
  end
  windows[kind] = w
end

if not state.epoch then
  state.epoch, state.opens, state.paused, state.served = now, now + grace, 0, 0
  redis.call('DEL', replicas_key, calls_key, buckets_key)
end

local replicas = {}
do
  local all = redis.call('HGETALL', replicas_key)
  for i = 1, #all, 2 do
    local words = {}
    for word in string.gmatch(all[i + 1], '%S+') do words[#words + 1] = tonumber(word) end
    -- One that an older version wrote has the first four only.
    replicas[all[i]] = {
      beat = words[1], last = words[2], served = words[3], due = words[4],
      band = words[5] or 0, flows = words[6] or 1, likely = words[7] or 0, variance = words[8] or 0,
    }
  end
end

local function keep_replica(id)
  local peer = replicas[id]
  redis.call('HSET', replicas_key, id,
    table.concat({
      int(peer.beat), int(peer.last), float(peer.served), int(peer.due),
      int(peer.band), int(peer.flows), int(peer.likely), int(peer.variance),
    }, ' '))
end

local function keep_state()
  local values = {}
  local function keep(name, text)
    values[#values + 1] = name
    values[#values + 1] = text
  end
  keep('epoch', int(state.epoch)); keep('opens', int(state.opens))
  keep('paused', int(state.paused)); keep('served', float(state.served))
  for kind = 1, KINDS do
    local w = windows[kind]
    if w.touched then
      for _, field in ipairs(FIELDS) do keep(field .. kind, float(w[field])) end
    end
  end
  redis.call('HSET', state_key, unpack(values))
  local ttl = int(math.max(2 * (window + jitter), 600000000) / 1000)
  for i = 1, 4 do redis.call('PEXPIRE', KEYS[i], ttl) end
end

-- Windows -----------------------------------------------------------------------------

local function bucket(w, number) return w.kind .. ':' .. int(number % ring) end

local function expiry(number) return (number + 1) * width + window + jitter end

-- The amounts of the buckets `from` to `to`.
local function amounts(w, from, to)
  if to < from then return {} end
  local fields = {}
  for number = from, to do fields[#fields + 1] = bucket(w, number) end
  return redis.call('HMGET', buckets_key, unpack(fields))
end

local function add(w, number, amount)
  redis.call('HINCRBY', buckets_key, bucket(w, number), int(amount))
  w.counted = w.counted + amount
  w.touched = true
end

local function advance(w)
  local current = math.floor(now / width)
  if w.counted > 0 then
    -- The last bucket that expired by now.
    local last = math.min(math.floor((now - window - jitter) / width) - 1, w.oldest + ring - 1)
    if last >= w.oldest then
      local gone = {}
      for i, amount in ipairs(amounts(w, w.oldest, last)) do
        if amount then
          w.counted = w.counted - tonumber(amount)
          gone[#gone + 1] = bucket(w, w.oldest + i - 1)
        end
      end
      if #gone > 0 then redis.call('HDEL', buckets_key, unpack(gone)) end
      w.oldest = last + 1
      w.touched = true
    end
  end
  if w.counted <= 0 then w.oldest = math.max(w.oldest, current) end
end

local function credit_limit(w)
  return math.max(w.limit * burst - 1, math.min(w.limit * 0.5, 4) - 1, 0)
end

-- The highest constant rate that never meets the bound within the coming window.
local function even_rate(w)
  local even = w.limit / (window + jitter)
  local free = w.limit - w.counted - w.held
  local rate = 1e300
  if w.counted > 0 then
    for i, amount in ipairs(amounts(w, w.oldest, math.floor(now / width))) do
      amount = tonumber(amount or 0)
      if amount > 0 then
        rate = math.min(rate, free / (expiry(w.oldest + i - 1) - now))
        free = free + amount
      end
    end
  end
  rate = math.min(rate, free / (window + jitter)) * PACE_LEAD
  return math.min(math.max(rate, even / 16), even * PACE_LEAD)
end

local function pace(w)
  if now >= w.pace_until then
    w.pace = even_rate(w)
    w.pace_until = now + window / PACES
  end
  w.credit = math.min(w.credit + math.max(now - w.paced, 0) * w.pace, credit_limit(w))
  w.paced = math.max(w.paced, now)
  w.touched = true
end

local function set_limit(w, limit)
  if limit ~= w.limit then
    w.limit, w.pace_until, w.touched = limit, 0, true
  end
end

-- Grows the credit at a rate that lasts until what was counted first leaves the window.
local function pace_beside(w, headroom)
  local even = w.limit / window
  local most = even * PACE_LEAD
  local quiet = expiry(w.oldest) - now
  if w.counted <= 0 or quiet < window / 60 then
    w.pace = most
  else
    w.pace = math.min(math.max(headroom / quiet, even / 2), most)
  end
  w.pace_until = now + window / PACES
  w.credit = math.min(w.credit + math.max(now - w.paced, 0) * w.pace, credit_limit(w))
  w.credit = math.min(w.credit, math.max(headroom, w.limit * CATCH_UP))
  w.paced = math.max(w.paced, now)
  w.touched = true
end

-- When a cost has room, now or later, beside what calls in flight may come to count for.
local function room(w, cost, beside)
  advance(w)
  local used = w.counted + w.held
  if used > 0 and used + beside + cost > w.limit then
    for i, amount in ipairs(amounts(w, w.oldest, math.floor(now / width))) do
      used = used - tonumber(amount or 0)
      if used <= 0 or used + beside + cost <= w.limit then
        local at = expiry(w.oldest + i - 1)
        -- A forecast changes as time passes.
        if beside ~= 0 then at = math.min(math.max(at, now + 1), now + window / PACES) end
        return at
      end
    end
    return now + LONGEST / 5
  end
  if beside == 0 then pace(w) else pace_beside(w, w.limit - used - beside) end
  if w.credit >= 0 or used == 0 then return now end
  return now + math.max(math.min(-w.credit / w.pace, window / PACES), 1)
end

local function count(w, amount, then_)
  if amount <= 0 then return end
  advance(w)
  add(w, math.max(math.floor(then_ / width), w.oldest), amount)
end

-- Counts what was spent before and is known only now, and ends any burst.
local function count_late(w, amount, then_)
  advance(w)
  local number = math.max(math.floor(then_ / width), math.floor(now / width) + 1 - ring)
  if expiry(number) <= now then return end
  w.oldest = math.min(w.oldest, number)
  add(w, number, amount)
  w.credit, w.pace_until = math.min(w.credit, 0), 0
end

local function correct(w, then_, old, new)
  advance(w)
  w.credit = w.credit + old - new
  w.touched = true
  local number = math.floor(then_ / width)
  if number < w.oldest then return end
  local have = tonumber(redis.call('HGET', buckets_key, bucket(w, number)) or 0)
  add(w, number, math.max(have + new - old, 0) - have)
end

-- Calls -------------------------------------------------------------------------------

local function numbers(text)
  local list = {}
  for word in string.gmatch(text, '%S+') do list[#list + 1] = tonumber(word) end
  return list
end

local function keep_call(id, seq, at, counted, held)
  local words = { int(at) }
  for kind = 1, KINDS do words[1 + kind] = int(counted[kind]) end
  for kind = 1, KINDS do words[1 + KINDS + kind] = int(held[kind]) end
  redis.call('HSET', calls_key, id .. '/' .. int(seq), table.concat(words, ' '))
end

-- The largest share that amounts have of any quota.
local function share_of(some, more)
  local share = 0
  for kind = 1, KINDS do
    local limit = windows[kind].limit
    if limit > 0 then share = math.max(share, (some[kind] + more[kind]) / limit) end
  end
  return share
end

local function finish(id, field, call, counted, late)
  redis.call('HDEL', calls_key, field)
  if replicas[id] then
    local had = { {}, {} }
    for kind = 1, KINDS do had[1][kind], had[2][kind] = call[1 + kind], call[1 + KINDS + kind] end
    local unused = share_of(had[1], had[2]) - share_of(counted, late)
    replicas[id].served = replicas[id].served - unused / replicas[id].flows
    keep_replica(id)
  end
  for kind = 1, KINDS do
    local w, old, held = windows[kind], call[1 + kind], call[1 + KINDS + kind]
    if old + held > 0 then
      if old ~= counted[kind] then correct(w, call[1], old, counted[kind]) end
      w.held = math.max(w.held - held, 0)
      count(w, late[kind], now)
      w.credit = w.credit + held - late[kind]
      w.touched = true
    end
  end
end

local function finish_known(id, ended)
  local field = id .. '/' .. int(ended.seq)
  local call = redis.call('HGET', calls_key, field)
  if call then
    finish(id, field, numbers(call), ended.counted, ended.late)
  elseif replicas[id] then
    -- A claim that is still on its way must not be granted any more.
    replicas[id].last = math.max(replicas[id].last, ended.seq)
    keep_replica(id)
  end
end

-- Ends the calls of replicas that are silent for too long, as used in full.
local function bury()
  for id, peer in pairs(replicas) do
    if peer.beat + dead_after < now then
      replicas[id] = nil
      redis.call('HDEL', replicas_key, id)
      local all = redis.call('HGETALL', calls_key)
      for i = 1, #all, 2 do
        if string.sub(all[i], 1, #id + 1) == id .. '/' then
          local call = numbers(all[i + 1])
          local counted, late = {}, {}
          for kind = 1, KINDS do
            counted[kind], late[kind] = call[1 + kind], call[1 + KINDS + kind]
          end
          finish(id, all[i], call, counted, late)
        end
      end
    end
  end
end

local function waits(peer) return peer.due > 0 and peer.due + PATIENCE > now end

-- What the calls in flight of all replicas may add.
local function beside()
  local likely, variance = 0, 0
  for _, peer in pairs(replicas) do
    likely, variance = likely + peer.likely, variance + peer.variance
  end
  return math.floor(likely + CONFIDENCE * math.sqrt(variance))
end

-- Flat: epoch, replicas, waiting, then age and four amounts of each bin.
local function standing()
  local bins, bin_width = {}, math.max(math.floor((window + jitter) / 32), 1)
  local function put(bin, kind, amount)
    bins[bin] = bins[bin] or { 0, 0, 0, 0 }
    bins[bin][kind] = bins[bin][kind] + amount
  end
  for kind = 1, KINDS do
    local w = windows[kind]
    advance(w)
    if w.held > 0 then put(0, kind, w.held) end
    if w.counted > 0 then
      for i, amount in ipairs(amounts(w, w.oldest, math.floor(now / width))) do
        if amount then
          local age = math.max(now - (w.oldest + i) * width, 0)
          put(math.min(math.floor(age / bin_width), 32), kind, tonumber(amount))
        end
      end
    end
  end
  local living, waiting = 0, 0
  for _, peer in pairs(replicas) do
    living = living + 1
    if waits(peer) then waiting = waiting + 1 end
  end
  local flat = { state.epoch, living, waiting }
  for bin, sums in pairs(bins) do
    flat[#flat + 1] = bin * bin_width
    for kind = 1, KINDS do flat[#flat + 1] = sums[kind] end
  end
  return flat
end

-- Operations --------------------------------------------------------------------------

local GRANTED, LATER, PAUSED, UNKNOWN = 0, 1, 2, 3
local operations = {}

local function ask_again(peer, id, after)
  after = math.min(math.max(after, SHORTEST), LONGEST)
  peer.due = now + after
  keep_replica(id)
  return { LATER, math.ceil(after) }
end

function operations.reserve()
  local id, peer = arg.replica, replicas[arg.replica]
  if not peer then return { UNKNOWN, 0 } end
  peer.beat, peer.band, peer.flows = now, arg.band, arg.flows
  peer.likely, peer.variance = arg.beyond[1], arg.beyond[2]
  if redis.call('HEXISTS', calls_key, id .. '/' .. int(arg.seq)) == 1 then return { GRANTED, 0 } end
  if arg.seq <= peer.last then return { LATER, SHORTEST } end
  if now < state.paused then return { PAUSED, math.ceil(state.paused - now) } end
  if now < state.opens then return { LATER, math.ceil(state.opens - now) } end
  if not waits(peer) then
    -- It did not wait: what it did not use before is no claim to more now.
    peer.served = math.max(peer.served, state.served - LEAD / peer.flows)
  end
  local turn
  for other, rival in pairs(replicas) do
    local lead = LEAD / math.max(peer.flows, rival.flows)
    if other ~= id and waits(rival) and (rival.band < peer.band
        or rival.band == peer.band and peer.served > rival.served + lead) then
      turn = math.min(turn or rival.due, rival.due)
    end
  end
  if turn then return ask_again(peer, id, turn - now + SHORTEST) end
  if arg.concurrency > 0 and redis.call('HLEN', calls_key) >= arg.concurrency then
    return ask_again(peer, id, LONGEST / 5)
  end
  local at, flying = now, beside()
  for kind = 1, KINDS do
    if arg.limits[kind] >= 0 then
      set_limit(windows[kind], arg.limits[kind])
      -- Kinds 2 and 4 hold output.
      local more = kind % 2 == 0 and flying or 0
      at = math.max(at, room(windows[kind], arg.counted[kind] + arg.held[kind], more))
    end
  end
  if at > now then return ask_again(peer, id, at - now) end
  for kind = 1, KINDS do
    if arg.limits[kind] >= 0 then
      local w, counted, held = windows[kind], arg.counted[kind], arg.held[kind]
      count(w, counted, now)
      w.held = w.held + held
      w.credit = w.credit - counted - held
      w.touched = true
    else
      arg.counted[kind], arg.held[kind] = 0, 0
    end
  end
  local share = share_of(arg.counted, arg.held)
  if arg.concurrency > 0 then share = math.max(share, 0.01 / arg.concurrency) end
  state.served = peer.served
  -- One that waited probably has more to ask, and keeps its turn that long.
  local due = waits(peer) and now or 0
  peer.served, peer.due, peer.last = peer.served + share / peer.flows, due, arg.seq
  keep_replica(id)
  keep_call(id, arg.seq, now, arg.counted, arg.held)
  return { GRANTED, 0 }
end

function operations.tell()
  if arg.pause > 0 then state.paused = math.max(state.paused, now + arg.pause) end
  for _, ended in ipairs(arg.ended) do finish_known(arg.replica, ended) end
  local peer = replicas[arg.replica]
  if peer then
    peer.likely, peer.variance = arg.beyond[1], arg.beyond[2]
    keep_replica(arg.replica)
  end
  return {}
end

function operations.beat()
  local peer = replicas[arg.replica]
  if not peer then return {} end
  peer.beat = now
  keep_replica(arg.replica)
  return standing()
end

function operations.join()
  local id = arg.replica
  local peer = replicas[id]
    or { last = 0, served = state.served, due = 0, band = 0, flows = 1, likely = 0, variance = 0 }
  replicas[id] = peer
  peer.beat = now
  if arg.seq <= peer.last then
    keep_replica(id)
    return standing()
  end
  peer.last = arg.seq
  keep_replica(id)
  local news = arg.whole
  if arg.epoch == int(state.epoch) then news = arg.fresh end
  for _, spent in ipairs(news) do
    for kind = 1, KINDS do
      if spent.amounts[kind] > 0 then
        count_late(windows[kind], spent.amounts[kind], now - spent.age)
      end
    end
  end
  local known = {}
  for _, call in ipairs(arg.calls) do known[id .. '/' .. int(call.seq)] = true end
  local all = redis.call('HGETALL', calls_key)
  local held = {}
  for i = 1, #all, 2 do
    held[all[i]] = true
    if string.sub(all[i], 1, #id + 1) == id .. '/' and not known[all[i]] then
      finish(id, all[i], numbers(all[i + 1]), { 0, 0, 0, 0 }, { 0, 0, 0, 0 })
    end
  end
  for _, call in ipairs(arg.calls) do
    if not held[id .. '/' .. int(call.seq)] then
      for kind = 1, KINDS do
        local w = windows[kind]
        if call.held[kind] > 0 then
          w.held, w.credit, w.touched = w.held + call.held[kind], w.credit - call.held[kind], true
        end
      end
      keep_call(id, call.seq, now - call.age, call.counted, call.held)
    end
  end
  return standing()
end

bury()
local reply = operations[ARGV[1]]()
keep_state()
return reply
