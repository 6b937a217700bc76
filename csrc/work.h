// The work of a step once its rows are accepted: what is measured first, and the jobs that write.
#pragma once
#include <vector>

#include "rows.h"
#include "threads.h"

constexpr int64_t JOB = 1 << 15;    // elements that a thread takes at a time
constexpr int64_t SMALL = 1 << 17;  // elements in a step that one thread does: others would not wake sooner
constexpr int64_t BRIEF = 1 << 19;  // and that keeps the GIL

class Work {
public:
    // Takes the rows of a step, `total` elements in all, which is to run on so many threads.
    Work(const std::vector<PlanRow*>& rows, int64_t total, int threads);

    // The sum of the squares of each row's gradient, where its group limits the norm.
    std::vector<double> squares_of_rows();
    // The sum over each row of what its group measures, at the scale of the gradient that is set.
    std::vector<double> updates_of_rows();
    // Of all gradients whose group limits their norm.
    double total_squares();
    // Sets the groups' scale of the gradient by the norm of what is unscaled.
    void limit_norm(double norm, double unscale);
    // Folds each row's coefficients, counts its step, measures and scales updates; what was measured
    // before, if anything, is given by the rows' numbers.
    void prepare(const std::vector<double>& measured);
    // Writes. `lead` is what this thread has to do besides, while others begin.
    void run(const Pool::Lead& lead);

private:
    struct Segment {
        PlanRow* row;
        int64_t begin, end;
    };
    using Measured = std::function<double(const Segment&)>;

    std::vector<double> measure(const Measured& one);
    std::vector<double> by_row(const Measured& one);
    void scale_updates(const std::vector<double>& sums);
    static void run_segment(const Segment& segment, const PlanRow* next);

    const std::vector<PlanRow*>& rows_;
    const int threads_;
    std::vector<Segment> segments_, in_order_;
    std::vector<size_t> jobs_{0};
    bool measured_before_ = false;
};
