# Answers a request with the ten most frequent words of its body, as lines of "count word".
body=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["body"])')
if [ -z "$body" ]; then
  echo "an empty text has no words" >&2
  exit 3
fi
printf '%s\n' "$body" | tr -cs '[:alnum:]' '\n' | tr '[:upper:]' '[:lower:]' | sort | uniq -c | sort -k1,1nr -k2 |
  head -n 10 | sed 's/^ *//'
