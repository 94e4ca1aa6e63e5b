#!/usr/bin/env bash
# The fine-tuning exercise, 課題1-1 to 4-2, offline on a laptop's CPU, against `lawft serve-jobs` instead of OpenAI. docs/exercise.ja.md
#
#   bash scripts/exercise.sh [FOLDER] [--force]      FOLDER: default exercise; --force replaces one that this script made
#
# Everything is written under FOLDER. EXERCISE_EPOCHS, EXERCISE_TOKENS (of an answer), EXERCISE_LIMIT (pairs of 課題3-2) and EXERCISE_PORT
# (default: a free one) change what it takes. An environment that has lawft-trl[serve,assistant] is used; without one .venv is made.
set -euo pipefail

folder=exercise force=
for word in "$@"; do
  case "$word" in
    --force) force=yes ;;
    -*) echo "usage: bash scripts/exercise.sh [FOLDER] [--force]" >&2; exit 2 ;;
    *) folder=$word ;;
  esac
done
if [ -e "$folder" ]; then
  if [ -z "$force" ]; then
    echo "$folder exists already; name another folder, or --force to replace it" >&2
    exit 2
  elif [ ! -f "$folder/.lawft-exercise" ]; then
    echo "$folder was not made by this script, so --force does not replace it; name another folder" >&2
    exit 2
  fi
  rm -rf "$folder"
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
touch "$folder/.lawft-exercise"

cd "$(dirname "${BASH_SOURCE[0]}")/.."
if ! { command -v lawft && python -c 'import lawft_trl, docx, fastapi, openai, pypdf, uvicorn'; } >/dev/null 2>&1; then
  source scripts/install.sh serve,assistant
fi

export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-$(getconf _NPROCESSORS_ONLN)}"
export XDG_STATE_HOME="$folder/state" # the agreement to the assistant's notice counts for this exercise alone
epochs=${EXERCISE_EPOCHS:-4} tokens=${EXERCISE_TOKENS:-96} limit=${EXERCISE_LIMIT:-4}
port=${EXERCISE_PORT:-$(python -c 'import socket; probe = socket.socket(); probe.bind(("127.0.0.1", 0)); print(probe.getsockname()[1])')}
server=

end_server() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true # it ends its own children first
  fi
}
trap end_server EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

step() { echo; echo "== $* (${SECONDS} s) =="; }

step "課題1-1 データを作り、8対2に分ける"
lawft data legal --out "$folder/data"
train=$(ls "$folder"/data/dialogue/train_*.jsonl) test=$(ls "$folder"/data/dialogue/test_*.jsonl)

step "課題1-2 品質を調べ、トークン数と費用を見積もる"
lawft openai check "$folder/data/openai_train.jsonl" --validation "$folder/data/openai_test.jsonl"
cat > "$folder/prices.yaml" <<'PRICES'
date: 2026-11-22
currency: USD
source: secondary sources, not OpenAI's own page (docs/openai.md); look the price up before you rely on it
models:
  gpt-4o-2024-08-06: {training: 25.0}
PRICES
lawft openai cost "$folder/data/openai_train.jsonl" --model gpt-4o-2024-08-06 --epochs "$epochs" --prices "$folder/prices.yaml"

step "課題2-1 サーバーを始め、ファイルを送り、ジョブを作って見守る"
unset LAWFT_JOBS_API_KEY # the server makes a key of its own
lawft serve-jobs --folder "$folder/jobs" --port "$port" --base tiny=recipes/parents/jobs_tiny.yaml > "$folder/server.log" 2>&1 &
server=$!
until grep -q "Uvicorn running" "$folder/server.log"; do
  kill -0 "$server" 2>/dev/null || { cat "$folder/server.log" >&2; exit 1; }
  sleep 0.2
done
export OPENAI_BASE_URL="http://127.0.0.1:$port/v1"
OPENAI_API_KEY=$(cat "$folder/jobs/api_key")
export OPENAI_API_KEY
valid_id=$(lawft openai upload "$folder/data/openai_test.jsonl")
train_id=$(lawft openai upload "$folder/data/openai_train.jsonl")
job=$(lawft openai create "$train_id" --validation-file "$valid_id" --model tiny --n-epochs "$epochs" --suffix houmu --seed 42)
MODEL=$(lawft openai watch "$job" 2> >(tee "$folder/watch.log" >&2))
export MODEL
lawft openai pull "$job" --out "$folder/job.json"

step "課題2-1 学習したモデルが、その名前でHTTPに答える（OpenAIのクライアントのまま）"
python - "$folder/answers.json" <<'PYTHON'
import json, os, sys
import openai

client = openai.OpenAI()  # OPENAI_BASE_URL and OPENAI_API_KEY
question = [{"role": "user", "content": "秘密保持契約で注意すべき点は何ですか。"}]
answers = {}
for model in ("tiny", os.environ["MODEL"]):
    answer = client.chat.completions.create(model=model, messages=question, temperature=0, max_tokens=64)
    answers[model] = answer.choices[0].message.content
    print(f"{answer.model}: {answers[model]}")
json.dump(answers, open(sys.argv[1], "w", encoding="utf-8"), ensure_ascii=False, indent=2)
PYTHON

assess() { # RUN MODEL FOLDER [MORE...]
  local run=$1 model=$2 out=$3
  shift 3
  lawft assess "$folder/jobs/runs/$run" --base-url "$OPENAI_BASE_URL" --model "$model" --base tiny --api-key-env OPENAI_API_KEY --pairs "$test" --max-tokens "$tokens" --out "$out" "$@"
}

step "課題2-2 学習前と学習後を、取り分けておいた組で比べる"
assess "$job" "$MODEL" "$folder/assessments/first"

step "課題3-1 弱点から作業の一覧を作り、書き足した組を加える"
lawft improve "$folder/assessments/first" --pairs "$train" --add scripts/exercise_pairs.jsonl --out "$folder/improved"
lawft openai check "$folder/improved/openai_train.jsonl" --validation "$folder/data/openai_test.jsonl"

step "課題3-1 改めたデータで二つ目のジョブを作る"
improved_id=$(lawft openai upload "$folder/improved/openai_train.jsonl")
second=$(lawft openai create "$improved_id" --validation-file "$valid_id" --model tiny --n-epochs "$epochs" --suffix houmu2 --seed 42)
SECOND=$(lawft openai watch "$second" 2> >(tee "$folder/watch2.log" >&2))
lawft openai pull "$second" --out "$folder/job2.json"

step "課題3-1 改良の前と後を比べる"
assess "$second" "$SECOND" "$folder/assessments/second" --against "$folder/assessments/first"

step "課題3-2 プロンプトとの組み合わせ（$limit 組だけ）"
assess "$second" "$SECOND" "$folder/assessments/strategies" --strategy plain,system,few_shot,cot,few_shot_cot --examples "$train" --limit "$limit"

step "課題4-1 ラッパー：温度、履歴、形式の指定、誤りの扱い"
MODEL=$SECOND TOKENS=$tokens python - "$folder/wrapper.json" <<'PYTHON'
import json, os, sys
from pydantic import BaseModel
from lawft_trl.assistant.client import LegalClient
from lawft_trl.assistant.conversation import Conversation
from lawft_trl.assistant.failures import ModelError, UnreadableAnswer
from lawft_trl.assistant.models import entry_from_url


class Finding(BaseModel):
    issue: str
    article: str


entry = entry_from_url(os.environ["OPENAI_BASE_URL"], os.environ["MODEL"], backend="lawft", base_model="tiny", api_key_env="OPENAI_API_KEY")
client, tokens = LegalClient(entry), int(os.environ["TOKENS"])
talk = Conversation(client, system="あなたは日本法の実務を助けるアシスタントです。", token_budget=700)
for temperature, text in ((0, "秘密保持契約の期間はどう定めますか。"), (0.8, "では、違約金はどうですか。")):
    reply = talk.say(text, temperature=temperature, max_tokens=tokens, seed=1)
    print(f"温度 {temperature}、{reply.prompt_tokens} + {reply.completion_tokens} トークン、{reply.seconds:.1f} 秒: {reply.text}")
try:
    found, _ = client.ask_json([{"role": "user", "content": "「乙は一切の責任を負わない」という条項の論点を一つ挙げてください。"}], Finding, temperature=0, max_tokens=tokens)
    form = found.model_dump()
except UnreadableAnswer as error:  # the tiny model writes no JSON; the wrapper says so and invents nothing
    form = {"UnreadableAnswer": str(error)}
print(form)
try:
    client.ask([{"role": "user", "content": "答えますか。"}], model="no-such-model", max_tokens=1)
    failure = None
except ModelError as error:
    failure = {type(error).__name__: str(error)}
print(failure)
json.dump({"history": talk.history, "json": form, "failure": failure}, open(sys.argv[1], "w", encoding="utf-8"), ensure_ascii=False, indent=2)
PYTHON

step "課題4-2 法務アシスタント：四つの仕事と書き出し"
# The beginning of a sample contract: the tiny model seldom ends an answer, and every clause is asked about, twice where the form is wrong.
sed '/^第3条/,$d' lawft_trl/assets/legal/contracts/nda.txt > "$folder/contract.txt"
printf '秘密保持契約書（案）\n\n{{開示者}}（以下「甲」という。）と{{受領者}}（以下「乙」という。）は、次のとおり契約を締結する。\n\n第1条（期間）\n本契約の有効期間は、締結の日から{{期間}}とする。\n' > "$folder/template.txt"
printf '開示者：株式会社甲野\n受領者：乙川工業株式会社\n期間：2年間\n' > "$folder/facts.txt"
assistant() { lawft assistant --base-url "$OPENAI_BASE_URL" --model "$SECOND" --base tiny --api-key-env OPENAI_API_KEY --accept study "$@"; }
assistant --review "$folder/contract.txt" --out "$folder/review.md"
assistant --ask "秘密保持契約で注意すべき点は何ですか。" --out "$folder/answer.docx"
assistant --risks "$folder/contract.txt" --out "$folder/risks.md"
assistant --draft "$folder/template.txt" --facts "$folder/facts.txt" --out "$folder/draft.md"

echo
echo "Done in $SECONDS s. Read $folder/assessments/*/report.md, $folder/improved/worklist.md, $folder/review.md"
echo "The tiny model writes broken Japanese: this shows that the way works, and nothing about the quality of advice."
