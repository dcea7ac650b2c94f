# The YAML that cloud-config files are made of, flattened to lines of `path<TAB>value` (list positions count from 0).
# Block and flow collections, quoted and plain scalars, | and > blocks; no anchors, no tags, no several documents.

{ sub(/\r$/, ""); line[++last] = $0 }
END { at = 1; node(0, "") }

function emit(path, text) {
    gsub(/\\/, "\\\\", text)
    gsub(/\n/, "\\n", text)
    print path "\t" text
}

function join(path, key) { return path == "" ? key : path "." key }

function indent_of(text) { match(text, /^ */); return RLENGTH }

# Moves to the next line that says something; sets `depth` and `rest`.
function peek() {
    while (at <= last && line[at] ~ /^[ \t]*(#.*)?$|^(---|\.\.\.)[ \t]*$|^%/) at++
    if (at > last) { depth = -1; rest = ""; return 0 }
    depth = indent_of(line[at])
    rest = substr(line[at], depth + 1)
    return 1
}

function is_item(text) { return text ~ /^-([ \t]|$)/ }

# Length of `key:` with its space at the start of a text, or 0.
function key_length(text,    colon) {
    if (match(text, /^"[^"]*"[ \t]*:([ \t]+|$)/) || match(text, /^'[^']*'[ \t]*:([ \t]+|$)/)) return RLENGTH
    if (text ~ /^[[{"'#|>]/) return 0
    if (!(colon = match(text, /:([ \t]|$)/))) return 0
    return colon + trailing(substr(text, colon + 1))
}

function trailing(text) { match(text, /^[ \t]*/); return RLENGTH }

function node(least, path,    mine) {
    if (!peek() || depth < least) return
    mine = depth
    if (is_item(rest)) sequence(mine, path)
    else if (key_length(rest)) mapping(mine, path)
    else { at++; scalar(rest, mine - 1, path) }
}

function sequence(mine, path,    n, body) {
    for (n = 0; peek() && depth == mine && is_item(rest); n++) {
        body = substr(rest, 2)
        if (body ~ /^[ \t]*[|>][-+0-9]*[ \t]*(#.*)?$/) { at++; block(clean(body), mine, join(path, n)); continue }
        # The dash becomes a space: what follows it is then a node of its own, deeper than the list.
        line[at] = sprintf("%" (mine + 1) "s", "") body
        if (body ~ /^[ \t]*(#.*)?$/) at++
        node(mine + 1, join(path, n))
    }
}

function mapping(mine, path,    n, key, body) {
    while (peek() && depth == mine && (n = key_length(rest))) {
        key = clean(substr(rest, 1, n))
        sub(/[ \t]*:$/, "", key)
        key = unquote(key)
        body = substr(rest, n + 1)
        at++
        if (body !~ /^[ \t]*(#.*)?$/) scalar(body, mine, join(path, key))
        else if (peek() && (depth > mine || (depth == mine && is_item(rest)))) node(depth, join(path, key))
    }
}

# A value that starts with `body`; lines deeper than `outer` may continue it.
function scalar(body, outer, path) {
    body = clean(body)
    if (body ~ /^[|>]/) { block(body, outer, path); return }
    if (body ~ /^[[{]/) { flow_text = body; flow_at = 1; while (!balanced(flow_text) && at <= last) flow_text = flow_text " " clean(line[at++]); flow(path); return }
    while (open_quote(body) || body !~ /^["']/) {
        if (at > last || (line[at] !~ /^[ \t]*$/ && indent_of(line[at]) <= outer)) break
        if (line[at] ~ /^[ \t]*(#.*)?$/) { at++; continue }
        body = body " " clean(line[at++])
    }
    body = without_comment(body)
    emit(path, body ~ /^(~|null)$/ ? "" : unquote(body))
}

function clean(text) { sub(/^[ \t]+/, "", text); sub(/[ \t]+$/, "", text); return text }

function without_comment(text,    quote) {
    if (text ~ /^["']/) {
        quote = substr(text, 1, 1)
        if (match(text, quote == "'" ? "^'([^']|'')*'" : "^\"([^\"\\\\]|\\\\.)*\"")) return substr(text, 1, RLENGTH)
        return text
    }
    if (match(text, /[ \t]#/)) text = substr(text, 1, RSTART - 1)
    return clean(text)
}

function open_quote(text) {
    if (text ~ /^'/) return text !~ /^'([^']|'')*'/
    if (text ~ /^"/) return text !~ /^"([^"\\]|\\.)*"/
    return 0
}

function unquote(text,    out, i, c) {
    if (text ~ /^'.*'$/) { text = substr(text, 2, length(text) - 2); gsub(/''/, "'", text); return text }
    if (text !~ /^".*"$/) return text
    text = substr(text, 2, length(text) - 2)
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (c == "\\") {
            c = substr(text, ++i, 1)
            if (c == "n") c = "\n"
            else if (c == "t") c = "\t"
            else if (c == "r") c = "\r"
        }
        out = out c
    }
    return out
}

# A | or > block; `head` is the indicator, the block is what is deeper than `outer`.
function block(head, outer, path,    text, own, one, folded, blanks) {
    folded = head ~ /^>/
    own = -1
    text = ""
    blanks = 0
    while (at <= last) {
        one = line[at]
        if (one !~ /^[ \t]*$/) {
            if (own < 0) own = indent_of(one)
            if (indent_of(one) < own || own <= outer) break
            while (blanks > 0) { text = text "\n"; blanks-- }
            one = substr(one, own + 1)
            if (folded && text != "" && text !~ /\n$/) text = text " " one
            else text = text one
            if (!folded) text = text "\n"
        } else blanks++
        at++
    }
    if (head ~ /\+/) while (blanks-- > 0) text = text "\n"
    else sub(/\n+$/, "", text)
    if (head !~ /[-+]/ && text != "") text = text "\n"
    emit(path, text)
}

function balanced(text,    i, c, deep, quote) {
    for (i = 1; i <= length(text); i++) {
        c = substr(text, i, 1)
        if (quote != "") { if (c == "\\" && quote == "\"") i++; else if (c == quote) quote = ""; continue }
        if (c == "\"" || c == "'") quote = c
        else if (c ~ /[[{]/) deep++
        else if (c ~ /[]}]/ && --deep == 0) return 1
    }
    return 0
}

function skip_blank() { while (substr(flow_text, flow_at, 1) ~ /^[ \t,]$/) flow_at++ }

function flow(path,    c, n, key) {
    skip_blank()
    c = substr(flow_text, flow_at, 1)
    if (c == "[") {
        flow_at++
        for (n = 0; flow_more("]"); n++) flow(join(path, n))
    } else if (c == "{") {
        flow_at++
        while (flow_more("}")) {
            key = flow_word(":")
            skip_blank()
            if (substr(flow_text, flow_at, 1) == ":") flow_at++
            flow(join(path, key))
        }
    } else emit(path, flow_word(""))
}

function flow_more(closing) {
    skip_blank()
    if (flow_at > length(flow_text)) return 0
    if (substr(flow_text, flow_at, 1) != closing) return 1
    flow_at++
    return 0
}

# One quoted or plain word of a flow collection; a plain key also ends at `stop`.
function flow_word(stop,    tail, word) {
    tail = substr(flow_text, flow_at)
    if (match(tail, /^"([^"\\]|\\.)*"/) || match(tail, /^'([^']|'')*'/)) {
        flow_at += RLENGTH
        return unquote(substr(tail, 1, RLENGTH))
    }
    if (stop != "" && match(tail, /^[^]:,}]+/) || match(tail, /^[^],}]+/)) {
        flow_at += RLENGTH
        return clean(substr(tail, 1, RLENGTH))
    }
    flow_at++
    return ""
}
