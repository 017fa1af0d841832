// See harness.h. Google Benchmark decides how often to run; this file translates, and prints one
// aligned line per benchmark: name, median time per item, items per second, and with repetitions
// the best of them and how far they lay apart.
//
//   micro --benchmark_filter=RE --benchmark_repetitions=5 --benchmark_min_time=0.1
//   micro --benchmark_out=FILE --benchmark_out_format=json
#include "harness.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include <benchmark/benchmark.h>

namespace {

bool failed = false;
size_t longest_name = sizeof "benchmark";

// The context of the benchmark that ran last: kept while the same one is run again.
struct Current {
    const struct bench *bench = nullptr;
    uint64_t argument = 0;
    void *context = nullptr;

    void end() {
        if (bench != nullptr && context != nullptr) {
            if (bench->teardown != nullptr)
                bench->teardown(context);
            else
                free(context);
        }
        bench = nullptr;
        context = nullptr;
    }
    void *begin(const struct bench *next, uint64_t with) {
        if (bench == next && argument == with) return context;
        end();
        bench = next;
        argument = with;
        context = next->setup(with);
        return context;
    }
} current;

uint64_t items_of(const struct bench *bench, uint64_t argument) {
    return bench->items != 0 ? bench->items : argument;
}

void run(benchmark::State &state, const struct bench *bench, uint64_t argument) {
    void *context = current.begin(bench, argument);
    if (context == nullptr) {
        failed = true;
        state.SkipWithError("could not be set up");
        return;
    }
    // One batch of all iterations: the loop is the C file's.
    while (state.KeepRunningBatch(state.max_iterations))
        bench->run(context, static_cast<uint64_t>(state.max_iterations));
    state.SetItemsProcessed(static_cast<int64_t>(static_cast<uint64_t>(state.iterations()) *
                                                 items_of(bench, argument)));
}

std::string time_words(double ns) {
    static const char *const units[] = {"ns", "us", "ms", "s "};
    unsigned unit = 0;
    while (ns >= 1000 && unit < 3) {
        ns /= 1000;
        unit++;
    }
    char text[32];
    snprintf(text, sizeof text, "%.*f %s", ns < 10 ? 2 : ns < 100 ? 1 : 0, ns, units[unit]);
    return text;
}

std::string rate_words(double rate) {
    static const char *const units[] = {" ", "k", "M", "G"};
    unsigned unit = 0;
    while (rate >= 1000 && unit < 3) {
        rate /= 1000;
        unit++;
    }
    char text[32];
    snprintf(text, sizeof text, "%.*f %s", rate < 10 ? 2 : rate < 100 ? 1 : 0, rate, units[unit]);
    return text;
}

class Table : public benchmark::BenchmarkReporter {
  public:
    bool ReportContext(const Context &) override {
        width_ = static_cast<int>(longest_name);
        printf("%-*s %12s %12s %12s %10s\n", width_, "benchmark", "time/item", "items/s", "best",
               "spread");
        return true;
    }

    void ReportRuns(const std::vector<Run> &runs) override {
        std::vector<double> seconds; // per item, one for each repetition
        std::string name;
        for (const Run &run : runs) {
            if (run.run_type != Run::RT_Iteration) continue;
            name = run.run_name.function_name;
            if (run.error_occurred) {
                printf("%-*s %s\n", width_, name.c_str(), run.error_message.c_str());
                return;
            }
            double rate = run.counters.at("items_per_second");
            seconds.push_back(rate > 0 ? 1 / rate : 0);
        }
        if (seconds.empty()) return;
        std::sort(seconds.begin(), seconds.end());
        double median = seconds[seconds.size() / 2];
        double spread = (seconds.back() - seconds.front()) / median * 100;
        printf("%-*s %12s %12s", width_, name.c_str(), time_words(median * 1e9).c_str(),
               rate_words(1 / median).c_str());
        if (seconds.size() > 1)
            printf(" %12s %8.0f %%\n", time_words(seconds.front() * 1e9).c_str(), spread);
        else
            printf(" %12s %10s\n", "-", "-");
        fflush(stdout);
    }

  private:
    int width_ = 0;
};

bool has_flag(int argc, char **argv, const char *prefix) {
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], prefix, strlen(prefix)) == 0) return true;
    return false;
}

} // namespace

extern "C" void bench_register(const struct bench *bench) {
    uint32_t count = std::max(bench->argument_count, 1u);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t argument = bench->argument_count > 0 ? bench->arguments[i] : 0;
        std::string name = bench->name;
        if (bench->argument_count > 0) name += "/" + std::to_string(argument);
        longest_name = std::max(longest_name, name.size());
        benchmark::RegisterBenchmark(name.c_str(), run, bench, argument)->UseRealTime();
    }
}

int main(int argc, char **argv) {
    // A list, or a format asked for by name, is printed as Google Benchmark prints it.
    bool own_table = !has_flag(argc, argv, "--benchmark_format") &&
                     !has_flag(argc, argv, "--benchmark_list_tests");
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    bench_ring();
    bench_wire();
    bench_raft();
    bench_lock();
    bench_wal();
    Table table;
    size_t matched =
        own_table ? benchmark::RunSpecifiedBenchmarks(&table) : benchmark::RunSpecifiedBenchmarks();
    current.end();
    benchmark::Shutdown();
    if (matched == 0) {
        fprintf(stderr, "micro: no benchmark has such a name; --benchmark_list_tests lists all\n");
        return 2;
    }
    return failed ? 1 : 0;
}
