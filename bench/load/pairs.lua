-- Every request another random pair of numbers. SEED: so that no run repeats another's.
require("result")

function init(_)
  math.randomseed(tonumber(os.getenv("SEED")))
end

function request()
  return post(string.format('{"vector":[%.6f,%.6f]}', math.random(), math.random()))
end
