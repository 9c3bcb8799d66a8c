"""The page and the plot of bench/run."""

import time

IN_FLIGHT = (10, 50, 200)
# Measured elsewhere in the same way (see the page): wall time as a multiple of the bare program's.
PEERS = {'pg_net 0.20.4': {10: 2.21, 50: 3.06, 200: 5.37}, 'pgsql-http 1.7': {10: 1.01, 50: 1.12, 200: 3.56}}


def ratio(calls, in_flight):
    return calls[(in_flight, 'sparky')]['seconds'] / calls[(in_flight, 'bare')]['seconds']


def call_table(calls):
    lines = ['| in flight | | wall s | × bare | CPU ms a call, own / all of PostgreSQL | peak private MB |', '|---|---|---|---|---|---|']
    for in_flight in IN_FLIGHT:
        bare, ours = calls[(in_flight, 'bare')], calls[(in_flight, 'sparky')]
        lines.append(f"| {in_flight} | bare libcurl | {bare['seconds']:.2f} | 1 | {bare['own']:.1f} | {bare['memory']:.0f} |")
        lines.append(f"| {in_flight} | **sparky** | {ours['seconds']:.2f} | **{ratio(calls, in_flight):.2f}** |"
                     f" {ours['own']:.1f} / {ours['all']:.1f} | {ours['memory']:.0f} |")
    return '\n'.join(lines)


def rate_table(rates):
    lines = ['| | clients | a second | beside it, in the same wrapper | a second | ratio |', '|---|---|---|---|---|---|']
    for clients in (1, 8):
        lines.append(f"| cache hit | {clients} | {rates[('hit', clients)]:,.0f} | `SELECT 1` | {rates[('nothing', clients)]:,.0f} |"
                     f" {rates[('hit', clients)] / rates[('nothing', clients)]:.2f} |")
        lines.append(f"| acceptance | {clients} | {rates[('accept', clients)]:,.0f} | one UPDATE, two INSERT | {rates[('ledger', clients)]:,.0f} |"
                     f" {rates[('accept', clients)] / rates[('ledger', clients)]:.2f} |")
    jobs, bare = rates['jobs'], rates['bare jobs']
    lines.append(f"| whole jobs, queue to settled | 64 in flight | {jobs['rate']:,.0f} | the bare calls alone | {bare['rate']:,.0f} | {jobs['rate'] / bare['rate']:.2f} |")
    return '\n'.join(lines)


def tables(results):
    text = ''
    if 'calls' in results:
        text += call_table(results['calls']) + '\n\n'
    if 'rates' in results:
        text += rate_table(results['rates']) + '\n'
    return text


PAGE = """# Performance

Made by `make bench` (`bench/run`), which writes this page and its plot. What counts are the ratios: each figure was measured in turns
with its baseline, in the same run, so that whatever else the machine did met both. Seconds are this machine's.

{machine}

## 200 calls of one second

A photo of 1.0 MB goes up ({up:.2f} MB of JSON), a picture of 1.5 MB comes down ({down:.2f} MB of JSON), plain HTTP/1.1 on loopback. The bare
program (`bench/bare.c`) is libcurl's multi interface with the same body, the same number in flight, and nothing else: it reads no JSON,
decodes no base64 and keeps nothing. sparky accepts 200 requests, each in a transaction of its own from one of {sessions} sessions, makes the calls, decodes and
checks the pictures, stores them in the database, and books each charge with its history row and cache entry.

{calls}

Wall time is from the first request to the last job settled, so it holds acceptance and storage. The server is made to have run
before: 1 GB of WAL has been written, and a checkpoint comes before each run, so that WAL segments are used again and not made
anew; fsync is on. Peak private memory is the anonymous memory in
`smaps_rollup` of the worker, or of the bare program: that of a call in flight is its photo, and its answer as it comes in.

![Wall time as a multiple of the bare program's](performance.svg)

The peers' figures in the plot are from an earlier run of the same kind (1.0 MB up and 1.5 MB down of body, PostgreSQL 15, 2 cores), in
which their own bare program was the unit: they are for the order of magnitude.

## Rates

Little pictures, no latency, fsync on. A request is what PostgREST sends: BEGIN, the settings, one SELECT, COMMIT. The baseline has
the same wrapper around another statement.

{rates}

A whole job, without its acceptance, takes the worker {jobs_own:.2f} ms of CPU (all of PostgreSQL: {jobs_all:.2f} ms); the bare call takes {bare_own:.2f} ms.

## How to read it, and how to run it

`bench/run calls` or `bench/run rates` run one half; `--rounds N` sets the number of turns, `--dry` writes nothing. It needs about {minutes}
minutes, libcurl's headers, a C compiler, and what the tests need. `sparky.memory_budget` is raised to 2 GB for it, since 200 calls with
these bodies want more than the default of 512 MB, which would hold the last thirty or so back until others have ended.
"""


def write(results, directory):
    m, calls, rates = results['machine'], results['calls'], results['rates']
    machine = (f"Last run: {time.strftime('%Y-%m-%d', time.gmtime())}, PostgreSQL {m['postgresql']}, {m['libcurl']}, {m['cores']} cores ({m['cpu']}),"
               f" {results['rounds']} {'round' if results['rounds'] == 1 else 'rounds, medians'}; load average at the start {m['load']:.1f}."
               + (' Other work was on the machine all the time: the seconds and the CPU say little, the ratios are rough.' if m['load'] > 1 else ''))
    page = PAGE.format(machine=machine, calls=call_table(calls), rates=rate_table(rates), up=results['bytes']['up'] / 1e6,
                       down=results['bytes']['down'] / 1e6, sessions=8, minutes=4 * results['rounds'],
                       jobs_own=rates['jobs']['own'], jobs_all=rates['jobs']['all'], bare_own=rates['bare jobs']['own'])
    (directory / 'performance.md').write_text(page)
    (directory / 'performance.svg').write_text(plot(calls))


def plot(calls):
    """Grouped bars: wall time over the bare program's, for each number in flight."""
    series = [('sparky', '#2f6fb5', {n: ratio(calls, n) for n in IN_FLIGHT}),
              ('pgsql-http 1.7', '#b9b9bd', PEERS['pgsql-http 1.7']), ('pg_net 0.20.4', '#85858b', PEERS['pg_net 0.20.4'])]
    width, height, left, bottom, top = 640, 320, 56, 270, 40
    highest = 6
    step = (width - left - 20) / len(IN_FLIGHT)

    def y(value):
        return bottom - (bottom - top) * min(value, highest) / highest
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12" role="img"'
           ' aria-label="Wall time of 200 calls as a multiple of the bare program">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="{left}" y="20" font-size="13">Wall time of 200 calls, as a multiple of bare libcurl (1 is the limit)</text>']
    for value in range(0, highest + 1):
        out.append(f'<line x1="{left}" x2="{width - 20}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="{"#c33" if value == 1 else "#ddd"}"/>')
        out.append(f'<text x="{left - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
    for group, in_flight in enumerate(IN_FLIGHT):
        for number, (name, color, values) in enumerate(series):
            x = left + group * step + 24 + number * 48
            out.append(f'<rect x="{x:.1f}" y="{y(values[in_flight]):.1f}" width="40" height="{bottom - y(values[in_flight]):.1f}" fill="{color}">'
                       f'<title>{name}: {values[in_flight]:.2f}</title></rect>')
            out.append(f'<text x="{x + 20:.1f}" y="{y(values[in_flight]) - 5:.1f}" text-anchor="middle">{values[in_flight]:.2f}</text>')
        out.append(f'<text x="{left + group * step + 92:.1f}" y="{bottom + 18}" text-anchor="middle">{in_flight} in flight</text>')
    for number, (name, color, _) in enumerate(series):
        out.append(f'<rect x="{left + number * 150}" y="{height - 20}" width="12" height="12" fill="{color}"/>')
        out.append(f'<text x="{left + number * 150 + 18}" y="{height - 10}">{name}</text>')
    return '\n'.join(out) + '\n</svg>\n'
