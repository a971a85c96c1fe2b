#!/usr/bin/env bash
# Checks a record of agentgov with git, ssh-keygen, openssl, jq, bash and coreutils alone, as docs/format.md says.
#
# Reads the sealed part of one record, from its first entry to its last, and changes nothing. Nothing of agentgov is
# used. Says what holds, and exits as `agentgov verify` does: 0 it holds, 12 broken, 13 signed by a key that nobody
# vouches for, 3 incomplete; 2 for wrong usage. It names the first entry that does not hold.
#
# What it does not look at: entries that are not sealed yet, snapshots, and the lists of changed lines.

set -euo pipefail
export LC_ALL=C
unset "${!GIT_@}"
export GIT_NO_REPLACE_OBJECTS=1 GIT_GRAFT_FILE=/dev/null GIT_NO_LAZY_FETCH=1 GIT_TERMINAL_PROMPT=0

usage() {
  cat <<'END'
usage: verify-with-stock-tools.sh [option]... [REPOSITORY]

  --record ID         the record's 32 hex characters; by default this clone's own, or the only one there is
  --ref REF           where its newest seal is; by default refs/agentgov/ledger/ID
  --key HEX           the log key that the record must have
  --head SIZE:ROOT    a signed head seen before (root in base64), which the record must go through; may be repeated
  --pin FILE          a pin of agentgov: a key and a head
  --trust FILE        allowed_signers: one of these persons must stand behind the record's key
  --witnesses FILE    lines `witness NAME VKEY`: their cosignatures in the repository are checked and compared
  --payloads GIT_DIR  check the payloads there; by default those that the repository has

exit: 0 it holds, 12 broken, 13 unknown signer, 3 incomplete, 2 usage
END
}

fail_usage() {
  printf 'error: %s\n' "$1" >&2
  usage >&2
  exit 2
}

stream='' ref='' known_key='' trust='' witnesses='' payloads='' repository=.
heads=()
need() { [[ $# -ge 2 && -n $2 ]] || fail_usage "$1 needs a value"; }
while (($#)); do
  case $1 in
    --record) need "$@"; stream=$2; shift 2 ;;
    --ref) need "$@"; ref=$2; shift 2 ;;
    --key) need "$@"; known_key=$2; shift 2 ;;
    --head)
      need "$@"
      [[ $2 =~ ^[1-9][0-9]{0,14}:[A-Za-z0-9+/]{43}=$ ]] || fail_usage "--head is SIZE:ROOT, the root in base64"
      heads+=("${2%%:*} $(base64 -d <<<"${2#*:}" | basenc --base16 -w0 | tr A-F a-f) a head named on the command line")
      shift 2
      ;;
    --pin)
      need "$@"
      jq -e . "$2" >/dev/null 2>&1 || fail_usage "$2 is not a pin"
      known_key=$(jq -r .public_key "$2")
      heads+=("$(jq -r '"\(.size) \(.root) the pin"' "$2")")
      shift 2
      ;;
    --trust) need "$@"; trust=$2; shift 2 ;;
    --witnesses) need "$@"; witnesses=$2; shift 2 ;;
    --payloads) need "$@"; payloads=$2; shift 2 ;;
    -h | --help) usage; exit 0 ;;
    -*) fail_usage "there is no option $1" ;;
    *) repository=$1; shift ;;
  esac
done
for tool in git jq openssl ssh-keygen sha256sum basenc split; do
  command -v "$tool" >/dev/null || fail_usage "$tool is missing"
done
[[ -z $payloads ]] || command git --git-dir="$payloads" rev-parse --git-dir >/dev/null 2>&1 ||
  fail_usage "$payloads is not a git folder"
[[ -z $known_key || $known_key =~ ^[0-9a-f]{64}$ ]] || fail_usage "a key has 64 hex characters"
for file in "$trust" "$witnesses"; do
  [[ -z $file || -r $file ]] || fail_usage "$file cannot be read"
done

git_dir=$(git -C "$repository" rev-parse --path-format=absolute --git-common-dir 2>/dev/null) ||
  fail_usage "$repository is not a git repository"
git() {
  command git --git-dir="$git_dir" -c core.commitGraph=false -c protocol.allow=never \
    -c advice.graftFileDeprecated=false "$@"
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# What was found. Entries at or above `limit` are not relied on; the lowest one that fails is named in the end.
limit=9007199254740991 stop_exit=0 stop_why=''
untrusted=() incomplete=() broken=() said=()
stop_at() { # ENTRY EXIT WHY
  if (($1 < limit)); then
    limit=$1 stop_exit=$2 stop_why=$3
  fi
}

# --- hashes, in bulk: one process for thousands of them

# Prints the SHA-256 of each file in a folder, in the order of their names.
hash_folder() {
  local files=("$1"/*) first
  for ((first = 0; first < ${#files[@]}; first += 2000)); do
    sha256sum -b -- "${files[@]:first:2000}" | cut -d ' ' -f 1
  done
}

# Reads lines of 128 hex characters, two hashes each; prints the hash of each inner node.
hash_nodes() {
  local folder
  folder=$(mktemp -d "$work/nodes.XXXXXX")
  while IFS= read -r pair; do printf '01%s' "$pair"; done | tr a-f A-F | basenc --base16 -d |
    split -b 65 -a 7 -d - "$folder/"
  [[ -z $(ls -A "$folder") ]] || hash_folder "$folder"
  rm -rf "$folder"
}

unhex() { tr a-f A-F | basenc --base16 -d; }
tohex() { basenc --base16 -w0 | tr A-F a-f; }

# --- Ed25519 keys: only encodings of points whose order does not divide 8

prime=7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed

# Writes an RSA public key whose modulus is the field's prime: raw "encryption" under it is a power in the field.
power_key() { # FILE EXPONENT
  printf '%s\n' 'asn1=SEQUENCE:key' '[key]' 'kind=SEQUENCE:kind' 'bits=BITWRAP,SEQUENCE:numbers' '[kind]' \
    'oid=OID:rsaEncryption' 'null=NULL' '[numbers]' "n=INTEGER:0x$prime" "e=INTEGER:0x$2" >"$work/power.cnf"
  openssl asn1parse -genconf "$work/power.cnf" -noout -out "$1"
}
power_key "$work/square" 2
power_key "$work/euler" 3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff6
power() { # KEY HEX
  printf '%s' "$2" | unhex |
    openssl pkeyutl -encrypt -pubin -keyform DER -inkey "$1" -pkeyopt rsa_padding_mode:none | tohex
}

# Prints the sum of two field elements, in hex.
add() {
  local carry=0 place sum='' reduced=''
  for ((place = 56; place >= 0; place -= 8)); do
    carry=$((carry + 16#${1:place:8} + 16#${2:place:8}))
    printf -v sum '%08x%s' $((carry & 0xffffffff)) "$sum"
    carry=$((carry >> 32))
  done
  if [[ $sum < $prime ]]; then
    printf '%s' "$sum"
    return
  fi
  carry=0
  for ((place = 56; place >= 0; place -= 8)); do
    carry=$((carry + 16#${sum:place:8} - 16#${prime:place:8}))
    printf -v reduced '%08x%s' $((carry & 0xffffffff)) "$reduced"
    carry=$((carry >> 32))
  done
  printf '%s' "$reduced"
}

# RFC 8032, 5.1.3: x^2 = (y^2 - 1) / (d y^2 + 1) must have a root. As d has none, this is so when exactly one of
# y^2 - 1 and y^2 + 1/d has one, by Euler's criterion.
is_good_key() { # HEX
  local place y='' square one other
  for ((place = 62; place >= 0; place -= 2)); do y+=${1:place:2}; done
  printf -v y '%02x%s' $((16#${y:0:2} & 0x7f)) "${y:2}"
  [[ $y < $prime ]] || return 1
  case $y in
    000000000000000000000000000000000000000000000000000000000000000[01] | \
      7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec | \
      05fc536d880238b13933c6d305acdfd5f098eff289f4c345b027b2c28f95e826 | \
      7a03ac9277fdc74ec6cc392cfa53202a0f67100d760b3cba4fd84d3d706a17c7) return 1 ;;
  esac
  square=$(power "$work/square" "$y")
  one=$(power "$work/euler" "$(add "$square" 7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffec)")
  other=$(power "$work/euler" "$(add "$square" 40907ed214d5ce432b162114cdb9cf660b5dd6984279542e25e0f276cdc9f843)")
  [[ $one != "$other" ]]
}

write_key() { # FILE HEX
  printf '302a300506032b6570032100%s' "$2" | unhex >"$1"
}
holds() { # KEY_FILE MESSAGE_FILE SIGNATURE_FILE
  openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$1" -in "$2" -sigfile "$3" >/dev/null 2>&1
}

# --- the record's seals

if [[ -z $stream && -r $git_dir/agentgov/stream ]]; then
  stream=$(<"$git_dir/agentgov/stream")
fi
if [[ -z $stream ]]; then
  mapfile -t refs < <(git for-each-ref --format='%(refname)' refs/agentgov/ledger/)
  ((${#refs[@]} < 2)) || fail_usage "there are several records: name one with --record"
  stream=${refs[0]:-}
  stream=${stream#refs/agentgov/ledger/}
fi
if [[ -z $stream ]]; then
  printf 'INCOMPLETE: there is no record here\n'
  exit 3
fi
[[ $stream =~ ^[0-9a-f]{32}$ ]] || fail_usage "a record is named by 32 hex characters"
origin=agentgov/$stream
tip=$(git rev-parse --verify --quiet "${ref:-refs/agentgov/ledger/$stream}^{}") || tip=''

# Writes an object to a file; 3 when it is not there, 12 when it is not what its name says.
fetch() { # TYPE ID FILE
  git cat-file "$1" "$2" >"$3" 2>/dev/null || {
    git cat-file -e "$2" 2>/dev/null && return 12
    return 3
  }
  [[ $(git hash-object -t "$1" --literally --no-filters -- "$3") == "$2" ]] || return 12
}

commits=()
commit=$tip
while [[ -n $commit ]]; do
  status=0
  fetch commit "$commit" "$work/commit" || status=$?
  ((status == 0)) || { stop_at 0 "$status" "the seal $commit is missing or damaged"; break; }
  tree='' parents=()
  while IFS=' ' read -r name value _; do
    case $name in
      '') break ;;
      tree) tree=$value ;;
      parent) parents+=("$value") ;;
    esac
  done <"$work/commit"
  ((${#parents[@]} < 2)) || { stop_at 0 12 "$commit is not a seal"; break; }
  commits=("$commit $tree" "${commits[@]}")
  commit=${parents[0]:-}
done
((limit > 0)) || commits=()

ends=() # how many entries there are after each seal
count=0
: >"$work/entries"
: >"$work/signatures"
mkdir "$work/seals" "$work/leaves" "$work/messages" "$work/keys"

take_seal() { # TREE FOLDER: the seal's files, of the right form; else 3 or 12
  local mode type id name wanted status=0
  fetch tree "$1" "$2.tree" || return
  for wanted in checkpoint entries proof signatures; do
    IFS=$' \t' read -r mode type id name || return 12
    [[ $mode == 100644 && $type == blob && $name == "$wanted" ]] || return 12
    fetch blob "$id" "$2.$name" || { status=$?; return "$status"; }
  done < <(git ls-tree "$1")
  [[ $(git ls-tree "$1" | wc -l) -eq 4 ]] || return 12
  for name in entries signatures; do
    [[ $(tail -c 1 "$2.$name" | tohex) == 0a ]] || return 12
  done
  [[ $(wc -l <"$2.entries") -eq $(wc -l <"$2.signatures") ]] || return 12
}

for item in "${commits[@]}"; do
  status=0
  take_seal "${item#* }" "$work/seals/$count" || status=$?
  ((status == 0)) || { stop_at "$count" "$status" "the seal ${item% *} is missing, damaged or of another form"; break; }
  cat "$work/seals/$count.entries" >>"$work/entries"
  cat "$work/seals/$count.signatures" >>"$work/signatures"
  count=$((count + $(wc -l <"$work/seals/$count.entries")))
  ends+=("$count")
done

# --- form of the entries, order, keys and the story of the runs: one pass of jq

read -r -d '' program <<'END' || true
# Each entry is checked for form, log, number, key and story; links and signatures are checked outside.
def wrong($code; $why): error({code: $code, why: $why});
def whole:
  type == "number" and (tostring | test("\\A(0|-?[1-9][0-9]{0,15})\\z"))
  and . < 9007199254740992 and . > -9007199254740992;
def text($pattern): type == "string" and test("\\A(" + $pattern + ")\\z");
def is($t):
  def fields($f):
    type == "object" and keys == ($f | keys) and (. as $o | all($f | keys[]; . as $k | $o[$k] | is($f[$k])));
  if $t | endswith("?") then . == null or is($t[:-1])
  elif $t == "digest" or $t == "c" then text("[0-9a-f]{64}")
  elif $t == "oid" then text("[0-9a-f]{40}|[0-9a-f]{64}")
  elif $t == "origin" then text("agentgov/[0-9a-f]{32}")
  elif $t == "token" then text("[A-Za-z0-9][A-Za-z0-9_.:/+-]{0,63}")
  elif $t == "base64" then
    text("([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?")
  elif $t == "string" then type == "string"
  elif $t == "boolean" then type == "boolean"
  elif $t == "integer" then whole
  elif $t == "tokens" then type == "array" and length <= 4096 and all(.[]; is("token"))
  elif $t == "ascending" then
    type == "array" and length <= 4096 and all(.[]; is("1.."))
    and (. as $l | all(range(1; $l | length); $l[. - 1] < $l[.]))
  elif $t == "continues" then fields({log: "origin", size: "1..", leaf: "digest"})
  elif $t == "next" then fields({log: "origin", public_key: "digest"})
  elif $t == "verdict" then fields({decision: "allow|ask|deny", policy: "digest", rules: "tokens"})
  elif $t == "capture" then
    fields({files: "watch|scan", gateway: "off|on", hooks: "boolean", keys: "open|closed",
      ledger: "open|closed", sandbox: "token"})
  elif $t == "envelope" then fields({payload: "base64", payload_type: "string", signatures: "signatures"})
  elif $t == "signatures" then
    type == "array" and length >= 1 and length <= 4096 and all(.[]; fields({keyid: "string", sig: "base64"}))
  elif $t | test("\\A-?[0-9]+[.][.]\\z") then whole and . >= ($t[:-2] | tonumber)
  else . as $v | type == "string" and ($t | split("|") | index($v)) != null
  end;

def step: {from: "oid", tree: "oid", how: "incremental|full", open: "ascending", changes: "c?"};
def place: "workspace|in-place";
# kind: [whether run is set, who signs, the fields]
def kinds: {
  "log.genesis": ["-", "log", {public_key: "digest", object_format: "sha1|sha256", continues: "continues?"}],
  "log.recovered": ["-", "log", {torn_bytes: "1..", sha256: "digest"}],
  "log.heartbeat": ["~", "any", {}],
  "log.end": ["-", "log", {next: "next?", reason: "rotated|restarted|retired"}],
  "pin.forgotten": ["-", "any", {log: "origin", root: "digest", size: "1.."}],
  "key.delegate": ["+", "log", {public_key: "digest", purpose: "run"}],
  "key.rotate": ["+", "session", {public_key: "digest"}],
  "key.end": ["+", "session", {}],
  "key.lost": ["+", "log", {lost: "1.."}],
  "stream.endorse": ["-", "log", {envelope: "envelope"}],
  "policy.adopted": ["~", "any", {digest: "digest", text: "c",
    source: "built-in|organisation|policy-ref|pinned|remote-default|default-branch|base"}],
  "run.start": ["+", "any", {agent: "token", agent_version: "token?", base: "oid", capture: "capture",
    how: "incremental|full", intent: "c?", policy: "digest", start: "c", tree: "oid",
    workspace: "in-place|clone"}],
  "actor.seen": ["+", "session", {actor: "1..", parent: "0..", who: "c"}],
  "call.request": ["+", "session", step + {n: "1..", actor: "0..", tool: "token", args: "c", verdict: "verdict"}],
  "call.answer": ["+", "session", {n: "1..", answer: "allow|deny", by: "operator|timeout|run-ended"}],
  "call.result": ["+", "session",
    step + {n: "1..", status: "ok|error|interrupted", output: "c?", took_us: "0.."}],
  "change.unattributed": ["+", "any", step],
  "run.end": ["+", "any",
    step + {state: "finished|interrupted|stopped|failed", exit: "integer?", ended: "0.."}],
  "result.bind": ["+", "any", {tree: "oid", base: "oid", result: "oid", delta: "digest", problems: "c?"}],
  "run.rollback": ["+", "any", step + {to: "-1..", target: "oid", place: place}],
  "run.apply": ["+", "any", {result: "oid", place: place, saved: "oid"}],
  "run.drop": ["+", "any", {}],
  "approval.given": ["+", "any", {envelope: "envelope", message: "c?"}],
  "promote.intent": ["+", "any", {result: "oid", delta: "digest", base: "oid", old: "oid", head: "oid",
    target: "c", policy: "digest", approvals: "ascending", tier: "token", self_approved: "boolean"}],
  "promote.done": ["+", "any", {commit: "oid"}],
  "promote.failed": ["+", "any", {reason: "token"}],
  "payload.erased": ["+", "any", {entry: "0..", commitment: "c", reason: "c?",
    field: "args|changes|intent|message|output|patch|reason|start|target|text|who"}],
  "payload.pruned": ["+", "any", {class: "args|changes|output|patch", before: "1..",
    cause: "retention|size|operator", count: "0.."}]
};
def committed: ["args", "changes", "intent", "message", "output", "problems", "reason", "start", "target",
  "text", "who"];

# Canonical JSON: printed again it is the same, its keys are sorted, its numbers are short integers. Printed by jq,
# DEL is an escape, which it may not be.
def canonical($raw):
  ($raw | length) <= 65536
  and ($raw | test("(\\A|[^\\\\])(\\\\\\\\)*\\\\u007[fF]") | not)
  and (tojson as $p | $p == $raw or $p == ($raw | gsub("\u007f"; "\\u007f")))
  and all(.. | objects; keys_unsorted == keys)
  and all(.. | numbers; whole);

# What the fields of a step say together.
def alone: .kind as $kind | .body as $b | ($b.from != $b.tree) as $differ |
  if $differ != ($b.changes != null) then wrong("line"; "its changes and trees do not agree")
  elif $differ and $b.open == [] and (["change.unattributed", "run.rollback", "run.end"] | index($kind)) == null then
    wrong("line"; "a change while no call is open")
  elif $kind == "change.unattributed" and (($differ | not) or $b.open != []) then
    wrong("line"; "no change, or a call is open")
  elif $kind == "run.rollback" and $b.open != [] then wrong("line"; "a call is open")
  elif $kind == "call.result" and ($b.open | index($b.n)) == null then wrong("line"; "its own call is not open")
  else . end;

def entry($raw): (try ($raw | fromjson) catch null) |
  if type != "object" or (canonical($raw) | not) then wrong("line"; "it is not canonical JSON")
  elif keys != ["body", "key", "kind", "log", "prev", "run", "seq", "ts", "v"] then wrong("line"; "not an entry")
  elif .v != 1 or ([.seq, .key, .ts] | all(is("0..")) | not) then wrong("line"; "its numbers are none")
  elif (.key < .seq or (.key == 0 and .seq == 0)) | not then wrong("line"; "its key is not one from before")
  elif (.log | is("origin") | not) or (.prev | is("digest") | not) then wrong("line"; "its log or prev is none")
  elif .run != null and (.run | text("[0123456789abcdefghjkmnpqrstvwxyz]{5}") | not) then
    wrong("line"; "its run is none")
  elif (.kind | type) != "string" or (.body | type) != "object" or (.kind == "log.genesis") != (.seq == 0) then
    wrong("line"; "its kind or body cannot stand here")
  elif kinds[.kind] == null then
    # Of a newer version, if the rest of it is right, which is checked outside.
    if .kind | text("[a-z]{1,32}([.][a-z_]{1,32})+") then .newer = true else wrong("line"; "its kind is none") end
  else
    kinds[.kind] as $k
    | if ($k[0] == "+" and .run == null) or ($k[0] == "-" and .run != null) then
        wrong("line"; "run must be set, or must not be")
      elif (.body | keys) != ($k[2] | keys)
        or (.body as $b | all($k[2] | keys[]; . as $f | $b[$f] | is($k[2][$f])) | not) then
        wrong("line"; "its body does not fit its kind")
      elif .body | has("from") then alone else . end
  end;

# State: {n, ended, boundary, keys: {NUMBER: run or false}, runs: {ID: story}}
def key_rules($e): ($e.key | tostring) as $k |
  if .ended then wrong("order"; "the record has ended")
  elif $e.seq == 0 then .
  elif .keys | has($k) | not then wrong("key"; "its key is not in use")
  elif (kinds[$e.kind][1] // "any") as $who | $who != "any" and ($who == "log") != ($e.key == 0) then
    wrong("key"; "its key may not sign this kind")
  elif $e.key != 0 and $e.run != null and $e.run != .keys[$k] then wrong("key"; "its key is another run's")
  elif $e.key != 0 and $e.key < .boundary and (["key.rotate", "key.end"] | index($e.kind)) == null then
    wrong("key"; "its key is from before the last seal")
  else . end
  | if ["log.genesis", "key.delegate", "key.rotate"] | index($e.kind) then
      .keys[$e.seq | tostring] = ($e.run // false)
    else . end
  | if ["key.rotate", "key.end"] | index($e.kind) then .keys |= del(.[$k])
    elif $e.kind == "key.lost" then
      ($e.body.lost | tostring) as $lost
      | if .keys[$lost] != $e.run then wrong("key"; "no such key is lost") else .keys |= del(.[$lost]) end
    elif $e.kind == "log.end" then .ended = true
    else . end;

def call_rules($e): $e.body as $b | .calls[$b.n | tostring] as $state |
  if .ended then wrong("calls"; "a call after the end of its run")
  elif $e.kind == "call.request" then
    if $b.n != .count + 1 then wrong("calls"; "calls are not numbered one after the other")
    elif .actors | index($b.actor) | not then wrong("calls"; "a call by an actor that is not known")
    else . end
  elif $state != (if $e.kind == "call.answer" then "ask" else "allow" end) then
    wrong("calls"; "no such call is open")
  else . end;

def step_rules($e):
  if $e.body.from != .tree then wrong("snapshots"; "the tree before it is another one")
  elif $e.body.open != .open then wrong("calls"; "other calls are open")
  else .tree = $e.body.tree end;

def story($e): $e.body as $b | ($b.n | tostring) as $n |
  if $e.kind == "run.start" then
    if . != null and .started then wrong("calls"; "its run has started before")
    else {started: true, ended: false, tree: $b.tree, end: null, count: 0, calls: {}, open: [], actors: [0],
      approvals: [], promoting: false} end
  elif . == null then
    if ["key.delegate", "key.rotate", "key.end", "key.lost", "policy.adopted", "log.heartbeat"] | index($e.kind) then .
    else wrong("calls"; "its run has not started") end
  else
    (if $e.kind | startswith("call.") then call_rules($e) else . end)
    | (if $b | has("from") then step_rules($e) else . end)
    | if $e.kind == "call.request" then
        .count = $b.n | .calls[$n] = $b.verdict.decision
        | if $b.verdict.decision == "allow" then .open += [$b.n] else . end
      elif $e.kind == "call.answer" then
        .calls[$n] = $b.answer | if $b.answer == "allow" then .open = (.open + [$b.n] | sort) else . end
      elif $e.kind == "call.result" then .calls |= del(.[$n]) | .open -= [$b.n]
      elif $e.kind == "actor.seen" then
        if (.actors | index($b.parent) | not) or (.actors | index($b.actor)) then
          wrong("calls"; "an actor twice, or by one that is not known")
        else .actors += [$b.actor] end
      elif $e.kind == "run.end" then
        if .ended then wrong("calls"; "its run has ended before")
        else .ended = true | .end = $b.tree | .open = [] | .calls = {} | .actors = [] end
      elif $e.kind == "result.bind" and $b.tree != .tree and $b.tree != .end then
        wrong("snapshots"; "a result of other files")
      elif $e.kind == "approval.given" then .approvals += [$e.seq]
      elif $e.kind == "promote.intent" then
        if .promoting or ($b.approvals - .approvals) != [] then
          wrong("calls"; "two promotions at once, or approvals that are none")
        else .promoting = true end
      elif ["promote.done", "promote.failed"] | index($e.kind) then
        if .promoting then .promoting = false else wrong("calls"; "no promotion is open") end
      else . end
  end;

# What a person says of the record's key must be about this record.
def endorsement($e; $key):
  if $e.kind != "stream.endorse" then .
  else
    ($e.body.envelope.payload | @base64d) as $raw | (try ($raw | fromjson) catch null) as $said
    | if $e.body.envelope.payload_type != "application/vnd.agentgov.endorsement.v1+json"
        or ($said | type) != "object" or ($said | keys) != ["log", "public_key", "roots", "v"]
        or ($said | tojson) != $raw or $said.v != 1 or ($said.roots | sort) != $said.roots
        or ($said | keys_unsorted) != ["log", "public_key", "roots", "v"]
        or $said.log != $log or $said.public_key != $key then
        wrong("signature"; "an endorsement of something else")
      else . end
  end;

def take($raw):
  entry($raw) as $e
  | if $e.log != $log then wrong("other-log"; "it belongs to another record")
    elif $e.seq != .n then wrong("order"; "this place holds entry \($e.seq)")
    else . end
  | key_rules($e)
  | (if $e.seq == 0 then .log_key = $e.body.public_key else . end)
  | (if $e.run != null and ($e.newer | not) then .runs[$e.run] = (.runs[$e.run] | story($e)) else . end)
  | endorsement($e; .log_key)
  | .n += 1
  | (if .ends[0] == .n then .boundary = .n | .ends |= .[1:] else . end)
  | .last = $e;

def said: .last as $e
  | ["entry", $e.seq, $e.key, $e.prev,
      (if ["log.genesis", "key.delegate", "key.rotate"] | index($e.kind) then $e.body.public_key else "-" end)],
    (if $e.newer then empty elif $e.body.envelope then
      ($e.body.envelope | .signatures[] as $s
        | ["person", $e.seq, $e.kind, .payload_type, .payload, $s.sig])
    else empty end),
    ($e | select(.newer | not) | .body | to_entries[] | select(.value != null and (.key as $k | committed | index($k) != null)
      and (.value | type) == "string") | ["commitment", $e.seq, .value]);

# No `break`: some versions of jq would catch it in the `try`.
foreach (inputs, null) as $raw (
    {n: 0, ends: $ends, boundary: 0, ended: false, keys: {}, runs: {}};
    if .stop or .last.newer then .halted = true
    elif $raw == null then .done = true
    else . as $before | try take($raw) catch
      (. as $why | $before | .stop = (if $why | type == "object" then $why.why else "jq: \($why)" end)) end;
    if .halted then empty
    elif .stop then ["stop", .n, 12, .stop]
    elif .done then (.runs | to_entries[] | select(.value != null and .value.started and (.value.ended | not))
      | ["open", .key])
    elif .last.newer then said, ["newer", .last.seq]
    else said end
  )
| map(tostring) | @tsv
END

# A byte that cannot stand in a line becomes one that JSON refuses; hashes are made from the bytes themselves.
tr '\000-\011\013-\037\200-\377' '\001' <"$work/entries" |
  jq -nRr --arg log "$origin" --argjson ends "[$(IFS=,; printf '%s' "${ends[*]}")]" "$program" >"$work/said" ||
  { printf 'error: jq failed\n' >&2; exit 1; }

log_key='' newer='' links=() keys=() new_keys=() people=() commitments=() open_runs=()
while IFS=$'\t' read -r what seq rest; do
  case $what in
    entry)
      IFS=$'\t' read -r key link new <<<"$rest"
      keys[seq]=$key links[seq]=$link
      [[ $new == - ]] || new_keys[seq]=$new
      ;;
    person) people+=("$seq"$'\t'"$rest") ;;
    commitment) commitments+=("$rest") ;;
    newer) newer=$seq ;;
    stop) stop_at "$seq" "${rest%%$'\t'*}" "${rest#*$'\t'}" ;;
    open) open_runs+=("$seq") ;;
  esac
done <"$work/said"
log_key=${new_keys[0]:-}

# --- the chain

leaf_of=()
number=0
while IFS= read -r line && ((number < limit)); do
  printf -v name '%s/%09d' "$work/leaves" "$number"
  printf '\0%s' "$line" >"$name"
  printf -v name '%s/%09d' "$work/messages" "$number"
  printf 'DSSEv1 38 application/vnd.agentgov.entry.v1+json %d %s' "${#line}" "$line" >"$name"
  number=$((number + 1))
done <"$work/entries"
((number == 0)) || mapfile -t leaf_of < <(hash_folder "$work/leaves")
before=0000000000000000000000000000000000000000000000000000000000000000
for ((seq = 0; seq < number; seq++)); do
  if [[ ${links[seq]:-} != "$before" ]]; then
    stop_at "$seq" 12 "it does not follow the entry before it"
    break
  fi
  before=${leaf_of[seq]}
done

# --- every signature

seq=0
while IFS= read -r raw && ((seq < limit)); do
  [[ $raw =~ ^[A-Za-z0-9+/]{85}[AQgw]==$ ]] || stop_at "$seq" 12 "its signature cannot be read"
  seq=$((seq + 1))
done <"$work/signatures"
((limit < count)) && wanted=$limit || wanted=$count
mkdir "$work/signed"
((wanted == 0)) || head -n "$wanted" "$work/signatures" | base64 -d | split -b 64 -a 9 -d - "$work/signed/"

for seq in "${!new_keys[@]}"; do
  ((seq < limit)) || break
  write_key "$work/keys/$seq" "${new_keys[seq]}"
  is_good_key "${new_keys[seq]}" || stop_at "$seq" 12 "it introduces a key that is refused"
done

check_signatures() { # FIRST STEP: prints the first entry whose signature is wrong
  local seq name
  for ((seq = $1; seq < wanted && seq < limit; seq += $2)); do
    printf -v name '%09d' "$seq"
    holds "$work/keys/${keys[seq]}" "$work/messages/$name" "$work/signed/$name" || { printf '%d\n' "$seq"; return; }
  done
}
workers=$(nproc)
for ((worker = 0; worker < workers; worker++)); do
  check_signatures "$worker" "$workers" >"$work/wrong.$worker" &
done
wait
for ((worker = 0; worker < workers; worker++)); do
  while IFS= read -r seq; do stop_at "$seq" 12 "it is not signed by the key that it names"; done <"$work/wrong.$worker"
done

# The entry of a newer version was linked and signed, or this is not reached at its place.
[[ -z $newer ]] || stop_at "$newer" 3 "it was written by a newer version"

# --- what persons signed

vouched=()
names=()
for item in "${people[@]}"; do
  IFS=$'\t' read -r seq kind type payload signature <<<"$item"
  ((seq < limit)) || break
  base64 -d <<<"$payload" >"$work/payload"
  printf 'DSSEv1 %d %s %d ' "${#type}" "$type" "$(wc -c <"$work/payload")" >"$work/statement"
  cat "$work/payload" >>"$work/statement"
  {
    printf -- '-----BEGIN SSH SIGNATURE-----\n'
    fold -w 70 <<<"$signature"
    printf -- '-----END SSH SIGNATURE-----\n'
  } >"$work/statement.sig"
  if ! ssh-keygen -Y check-novalidate -n agentgov-approval-v1 -s "$work/statement.sig" \
    <"$work/statement" >"$work/who" 2>/dev/null; then
    stop_at "$seq" 12 "a person's signature is wrong"
    break
  fi
  who=$(<"$work/who")
  who=${who##* }
  if [[ -n $trust ]]; then
    while IFS= read -r name; do
      if ssh-keygen -Y verify -f "$trust" -I "$name" -n agentgov-approval-v1 -s "$work/statement.sig" \
        <"$work/statement" >/dev/null 2>&1; then
        who="$name ($who)"
        [[ $kind != stream.endorse ]] || vouched+=("$who")
        break
      fi
    done < <(ssh-keygen -Y find-principals -f "$trust" -s "$work/statement.sig" 2>/dev/null || true)
  fi
  [[ $kind != stream.endorse ]] || names+=("$who")
  [[ $kind == stream.endorse ]] || said+=("approval in entry $seq by $who")
done

# --- the tree: level by level, then the roots that are needed, all sizes at once

((limit < count)) && entries=$limit || entries=$count
node=()  # "level place" -> hash, as node[level * 2^40 + place]
big=$((1 << 40))
for ((seq = 0; seq < entries; seq++)); do node[seq]=${leaf_of[seq]}; done
for ((level = 1, width = entries / 2; width > 0; level++, width /= 2)); do
  mapfile -t row < <(for ((place = 0; place < width; place++)); do
    below=$(((level - 1) * big + 2 * place))
    printf '%s%s\n' "${node[below]}" "${node[below + 1]}"
  done | hash_nodes)
  for ((place = 0; place < width; place++)); do node[level * big + place]=${row[place]}; done
done

peaks() { # SIZE: the roots of the perfect subtrees, the smallest first, into `peak`
  local size=$1 level=0
  peak=()
  for (( ; size > 0; size /= 2, level++)); do
    ((size % 2 == 0)) || peak+=("${node[level * big + size - 1]}")
  done
}

declare -A root_of=() rest_of=()
add_size() {
  (($1 > 0 && $1 <= entries)) || return 0
  peaks "$1"
  root_of[$1]=${peak[0]}
  rest_of[$1]=${peak[*]:1}
}
for size in "${ends[@]}"; do add_size "$size"; done
note_key_id() { # NAME TYPE KEY
  { printf '%s\n' "$1"; printf '%s%s' "$2" "$3" | unhex; } | sha256sum | cut -c 1-8
}

# Splits a note into `note_text` (a file) and `note_lines`; fails when it is none.
split_note() { # FILE
  local line at=-1 number
  [[ $(tail -c 1 "$1" | tohex) == 0a && $(tr -d '\n\040-\377' <"$1" | wc -c) -eq 0 ]] || return 1
  mapfile -t note <"$1"
  for number in "${!note[@]}"; do [[ -n ${note[number]} ]] || at=$number; done
  ((at > 0 && at < ${#note[@]} - 1)) || return 1
  printf '%s\n' "${note[@]:0:at}" >"$work/note_text"
  note_lines=("${note[@]:at + 1}")
  note=("${note[@]:0:at}")
  for line in "${note_lines[@]}"; do
    [[ $line =~ ^'— '[^[:space:]+]+' '[A-Za-z0-9+/]+=?=?$ ]] || return 1
    line=${line##* }
    [[ ${#line} -ge 8 && $(base64 -d <<<"$line" 2>/dev/null | base64 -w 0) == "$line" ]] || return 1
  done
}

# Reads a checkpoint of this record that the log key signed: `head_size` and `head_root` (hex).
open_checkpoint() { # FILE
  local line value found=1 item
  split_note "$1" || return 1
  for line in "${note_lines[@]}"; do
    [[ $line == "— $origin "* ]] || continue
    value=$(base64 -d <<<"${line##* }" | tohex)
    [[ ${value:0:8} == "$log_key_id" ]] || continue
    printf '%s' "${value:8}" | unhex >"$work/note_signature"
    holds "$work/keys/0" "$work/note_text" "$work/note_signature" || return 1
    found=0
  done
  for item in "${note[@]}"; do [[ -n $item ]] || return 1; done
  ((found == 0 && ${#note[@]} >= 3)) && [[ ${note[0]} == "$origin" ]] || return 1
  [[ ${note[1]} =~ ^(0|[1-9][0-9]{0,17})$ && ${note[2]} =~ ^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$ ]] || return 1
  head_size=${note[1]} head_root=$(base64 -d <<<"${note[2]}" | tohex)
}

[[ -z $log_key ]] || log_key_id=$(note_key_id "$origin" 01 "$log_key")

# --- witnesses: what they saw joins the heads that the record must go through

witnessed=()
if [[ -n $witnesses && -n $log_key ]]; then
  while read -r word name vkey _; do
    [[ $word == witness ]] || continue
    # NAME+ID+BASE64: the base64 may hold a + of its own.
    signer=${vkey%%+*} vkey=${vkey#*+}
    key=$(base64 -d <<<"${vkey#*+}" 2>/dev/null | tohex)
    [[ $key =~ ^04[0-9a-f]{64}$ ]] || continue
    id=$(note_key_id "$signer" 04 "${key:2}")
    while read -r oid; do
      git cat-file blob "$oid:checkpoint" >"$work/seen" 2>/dev/null || continue
      open_checkpoint "$work/seen" || continue
      for line in "${note_lines[@]}"; do
        value=$(base64 -d <<<"${line##* }" | tohex)
        [[ $line == "— $signer "* && ${value:0:8} == "$id" && ${#value} -eq 152 ]] || continue
        { printf 'cosignature/v1\ntime %d\n' "$((16#${value:8:16}))"; cat "$work/note_text"; } >"$work/cosigned"
        printf '%s' "${value:24}" | unhex >"$work/cosignature"
        write_key "$work/witness_key" "${key:2}"
        if holds "$work/witness_key" "$work/cosigned" "$work/cosignature"; then
          heads+=("$head_size $head_root the witness $name")
          witnessed+=("$name: $head_size")
        fi
      done
    done < <(git for-each-ref --format='%(objectname)' "refs/agentgov/witness/$stream/")
  done <"$witnesses"
fi

# --- signed heads, roots and proofs

for item in "${heads[@]}"; do add_size "${item%% *}"; done
while :; do
  sizes=()
  for size in "${!rest_of[@]}"; do [[ -z ${rest_of[$size]} ]] || sizes+=("$size"); done
  ((${#sizes[@]})) || break
  mapfile -t row < <(for size in "${sizes[@]}"; do
    printf '%s%s\n' "${rest_of[$size]%% *}" "${root_of[$size]}"
  done | hash_nodes)
  for place in "${!sizes[@]}"; do
    size=${sizes[place]}
    root_of[$size]=${row[place]}
    [[ ${rest_of[$size]} == *' '* ]] && rest_of[$size]=${rest_of[$size]#* } || rest_of[$size]=''
  done
done

first=0
for size in "${ends[@]}"; do
  ((size <= limit)) || break
  if ! open_checkpoint "$work/seals/$first.checkpoint"; then
    stop_at "$size" 12 "the signed head after it is not one that the log key signed"
  elif [[ $head_size != "$size" || $head_root != "${root_of[$size]}" ]]; then
    stop_at "$size" 12 "the signed head is not that of the entries before it"
  else
    # The proof of the last leaf is the peaks of the tree without it.
    peaks $((size - 1))
    for item in "${peak[@]}"; do printf '%s' "$item" | unhex | base64 -w 0; printf '\n'; done >"$work/proof"
    cmp -s "$work/proof" "$work/seals/$first.proof" || stop_at "$size" 12 "the proof of the last entry is wrong"
  fi
  first=$size
done

# --- what is known of the record

((limit < count)) && entries=$limit || entries=$count
if ((stop_exit == 0)); then
  if ((entries == 0)); then
    ((${#heads[@]} == 0)) && incomplete+=("nothing is sealed") || broken+=("the record is gone")
  elif [[ -n $known_key && $known_key != "$log_key" ]]; then
    untrusted+=("its key is $log_key, and not the one known")
  elif [[ -n $trust ]]; then
    ((${#vouched[@]})) || [[ -n $known_key ]] || untrusted+=("nobody in $trust stands behind its key")
  elif [[ -z $known_key && ${#heads[@]} -eq 0 ]]; then
    untrusted+=("nobody here vouches for its key")
  fi
  for item in "${heads[@]}"; do
    read -r size root who <<<"$item"
    if ((size > entries)); then
      broken+=("entries $entries-$((size - 1)) were seen by $who and are missing")
    elif ((entries > 0)) && [[ ${root_of[$size]} != "$root" ]]; then
      broken+=("entries 0-$((size - 1)) are not those seen by $who")
    fi
  done
  for run in "${open_runs[@]}"; do incomplete+=("run $run has not ended in the sealed part"); done
fi

# --- payloads, where they are at hand

if [[ -z $payloads ]]; then
  payloads=$git_dir
  [[ ! -d $git_dir/agentgov/store.git ]] || payloads=$git_dir/agentgov/store.git
fi
at_hand=0
if ((stop_exit == 0)); then
  declare -A committed=()
  for item in "${commitments[@]}"; do committed[$item]=1; done
  store() {
    command git --git-dir="$payloads" -c protocol.allow=never -c advice.graftFileDeprecated=false "$@"
  }
  mapfile -t tips < <(store for-each-ref --format='%(objectname)' refs/agentgov/payloads/)
  ((${#tips[@]} == 0)) || mapfile -t tips < <(store rev-list "${tips[@]}")
  for commit in "${tips[@]}"; do
    while IFS=$'\t' read -r _ field commitment salt value; do
      [[ -n ${committed[$commitment]:-} ]] || continue
      base64 -d <<<"$value" >"$work/value"
      {
        printf 'agentgov/commit/v1\0'
        base64 -d <<<"$salt"
        printf '%04x' "${#field}" | unhex
        printf '%s' "$field"
        printf '%016x' "$(wc -c <"$work/value")" | unhex
        cat "$work/value"
      } | sha256sum >"$work/found"
      read -r found _ <"$work/found"
      [[ $found == "$commitment" ]] || broken+=("a payload is not the one committed to: $commitment")
      at_hand=$((at_hand + 1))
      committed[$commitment]=''
    done < <(store cat-file blob "$commit:payloads" 2>/dev/null || true)
  done
fi

# --- the answer

printf 'record     %s\n' "$origin"
printf 'entries    %d sealed, in %d parts\n' "$entries" "${#ends[@]}"
if ((stop_exit == 0 && entries > 0)); then
  printf 'chain      ok: form, order, links, keys, %d signatures, roots and proofs\n' "$entries"
  printf 'key        %s\n' "$log_key"
  printf 'signer     %s\n' "${names[*]:-nobody stands behind this key}"
  printf 'witnesses  %s\n' "${witnessed[*]:-none checked}"
  printf 'payloads   %d at hand, each the one committed to\n' "$at_hand"
fi
for item in "${said[@]}"; do printf 'note       %s\n' "$item"; done
if ((stop_exit == 3)); then
  printf 'INCOMPLETE at entry %d: %s\n' "$limit" "$stop_why"
  exit 3
elif ((stop_exit != 0)); then
  printf 'BROKEN at entry %d: %s\n' "$limit" "$stop_why"
  exit 12
elif ((${#broken[@]})); then
  printf 'BROKEN: %s\n' "${broken[@]}"
  exit 12
elif ((${#untrusted[@]})); then
  printf 'UNKNOWN SIGNER: %s\n' "${untrusted[@]}"
  exit 13
elif ((${#incomplete[@]})); then
  printf 'INCOMPLETE: %s\n' "${incomplete[@]}"
  exit 3
fi
printf 'It holds, as far as these tools can tell.\n'
