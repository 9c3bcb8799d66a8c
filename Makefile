# sparky: the backend of an AI photo app as one PostgreSQL extension.
#
#   make            build the library and the extension script
#   make demo       a real photo through process_image, on a private server
#   make check      every test, on private servers; installs what is missing
#   make check-postgrest   its part with supabase-js; POSTGREST=/path/to/postgrest for the real one
#   make bench      the benchmarks, beside their baselines; writes doc/performance.md
#   make install    into the PostgreSQL that PG_CONFIG names
#   make installcheck   pg_regress and pgTAP against that server
#   make indent     lay the C code out (clang-format 14)

EXTENSION    = sparky
EXTVERSION   = $(shell sed -n "s/^default_version *= *'\(.*\)'/\1/p" sparky.control)
MODULE_big   = sparky
OBJS         = $(patsubst %.c,%.o,$(sort $(wildcard src/*.c)))
DATA_built   = sql/sparky--$(EXTVERSION).sql $(UPDATES)
# One script for each older version: they are all the same.
OLDER        = 0.1.0
UPDATES      = $(patsubst %,sql/sparky--%--$(EXTVERSION).sql,$(OLDER))

# Every SQL-callable function has an fcinfo, used or not; lengthof() is a size_t.
PG_CPPFLAGS  = -Isrc -D_GNU_SOURCE -DSPARKY_VERSION='"$(EXTVERSION)"' \
               -DPGDLLEXPORT='__attribute__((visibility("default")))'
PG_CFLAGS    = -std=gnu11 -fvisibility=hidden -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare -Wno-declaration-after-statement
SHLIB_LINK   = -lcurl -lcrypto -ljansson

REGRESS      = $(patsubst test/sql/%.sql,%,$(sort $(wildcard test/sql/*.sql)))
REGRESS_OPTS = --inputdir=test --outputdir=test/out --load-extension=sparky
EXTRA_CLEAN  = sql/sparky--*.sql test/out

# These work on a machine that has nothing yet; PGXS is not there then, and has
# a check target of its own, which refuses.
GOALS_OF_OURS = demo check check-postgrest bench bootstrap
ifneq ($(filter $(GOALS_OF_OURS),$(MAKECMDGOALS)),)
demo:
	@demo/demo

check:
	@test/check

# A part of check. With POSTGREST the real one answers, without it a stand-in.
check-postgrest:
	@test/check client

bench: bootstrap
	@bench/run

bootstrap:
	@test/lib/packages check

.PHONY: $(GOALS_OF_OURS)
else
PG_CONFIG   ?= pg_config
PGXS        := $(shell $(PG_CONFIG) --pgxs 2>/dev/null)
include $(or $(wildcard $(PGXS)),/dev/null)

# The extension script is its numbered fragments, then the seeds, in order.
sql/sparky--$(EXTVERSION).sql: $(sort $(wildcard sql/[0-9]*-*.sql)) sql/build $(wildcard seeds/*.sql) sparky.control
	sql/build > $@.tmp && mv $@.tmp $@

$(UPDATES): $(sort $(wildcard sql/[0-9]*-*.sql sql/update-*.sql)) sql/build $(wildcard seeds/*.sql) sparky.control
	sql/build update > $@.tmp && mv $@.tmp $@

# pg_regress is PGXS's own; each pgTAP file is one transaction that is rolled back.
installcheck: installcheck-pgtap
installcheck-pgtap:
	pg_prove $(addprefix --dbname ,$(CONTRIB_TESTDB)) $(sort $(wildcard test/pgtap/*.sql))

indent:
	clang-format -i src/*.[ch] test/emulator/*.[ch] test/unit/*.[ch] test/unit/http/*.[ch] $(wildcard bench/*.c)

.PHONY: installcheck-pgtap indent

# A header that changes rebuilds everything: the tree is small.
$(OBJS): $(wildcard src/*.h) Makefile
endif
