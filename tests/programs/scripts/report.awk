# A report with associative arrays, user functions, printf, getline and string functions.
function bar(n,    s) { s = ""; while (n-- > 0) s = s "#"; return s }
BEGIN { FS = ","; OFS = "|" }
NR == 1 { for (i = 1; i <= NF; i++) column[i] = toupper(substr($i, 1, 1)) substr($i, 2); next }
{
    initial = substr($2, 1, 1)
    count[initial]++
    sum[initial] += $3 * $4
    if ($4 + 0 > highest + 0) { highest = $4; where = $1 }
    gsub(/a/, "A", $2)
    if (match($2, /A+/)) hits += RLENGTH
}
END {
    print column[1], column[2], column[3], column[4]
    n = 0
    for (k in count) order[++n] = k
    for (i = 1; i <= n; i++)
        for (j = i + 1; j <= n; j++)
            if (order[j] < order[i]) { t = order[i]; order[i] = order[j]; order[j] = t }
    for (i = 1; i <= n; i++) {
        k = order[i]
        printf "%s %4d %14.2f %s\n", k, count[k], sum[k], bar(count[k] / 20)
    }
    printf "%d hits, highest %.2f at %d, %s\n", hits, highest, where, sprintf("%05x", highest)
    while ((getline line < "left.txt") > 0) printf "%s;", line
    printf "\n%.10g %.10g %d\n", exp(1), atan2(0, -1), int(-3.7)
    exit n % 7
}
