#include "work.h"

#include <cmath>

namespace {

void prepare_row(PlanRow& row) {
    Group& group = *row.group;
    row.t = *row.step + 1;
    if (row.format[P] != row.precision()) row.dice = Dice::of(group.seed, row.ordinal, uint64_t(row.t));
    row.coefficients = group.shared(row.wide(), row.t);
    if (row.coefficients) return;
    if (!row.own) row.own.reset(new Folded);
    group.fold(row.wide(), row.t, 1, *row.own);
    row.coefficients = row.own->of(row.wide());
}

bool is_measured(const PlanRow& row) { return row.group->measures() && row.count > 0; }

void prepare_measure(PlanRow& row) {
    if (!row.own) row.own.reset(new Folded);
    row.group->fold_measure(row.wide(), row.t, *row.own);
    row.measured = 0;
}

double measure_update(const PlanRow& row, int64_t begin, int64_t end) {
    const KernelEntry& kernel = *row.group->kernel;
    return (row.wide() ? kernel.measure64 : kernel.measure32)(row, row.own->of(row.wide()), begin, end);
}

void scale_update(PlanRow& row) {
    const double scale = row.group->update_scale(row.measured / double(row.count));
    row.group->fold(row.wide(), row.t, scale, *row.own);
    row.coefficients = row.own->of(row.wide());
}

}  // namespace

Work::Work(const std::vector<PlanRow*>& rows, int64_t total, int threads)
    : rows_(rows), threads_(total > SMALL ? threads : 1) {
    segments_.reserve(rows.size());
    int64_t filled = 0;
    for (PlanRow* row : rows) {
        if (row->in_order) {
            in_order_.push_back({row, 0, row->count});
            continue;
        }
        for (int64_t begin = 0; begin < row->count;) {
            const int64_t n = std::min(row->count - begin, JOB - filled);
            segments_.push_back({row, begin, begin + n});
            begin += n;
            filled = (filled + n) % JOB;
            if (filled == 0) jobs_.push_back(segments_.size());
        }
    }
    if (jobs_.back() != segments_.size()) jobs_.push_back(segments_.size());
}

// One number for each segment, in their order, those in order last.
std::vector<double> Work::measure(const Measured& one) {
    std::vector<double> sums(segments_.size());
    run_jobs(threads_, int64_t(jobs_.size()) - 1, [&](int64_t job) {
        for (size_t i = jobs_[size_t(job)]; i < jobs_[size_t(job) + 1]; ++i) sums[i] = one(segments_[i]);
    });
    return sums;
}

double Work::limit_norm(double squares_elsewhere, double unscale) {
    const auto squares = [](const Segment& s) {
        const InstructionSet& set = *s.row->group->set;
        if (s.row->group->max_norm == Group::none) return 0.0;
        return (s.row->wide() ? set.squares64 : set.squares32)(*s.row, nullptr, s.begin, s.end);
    };
    double total = squares_elsewhere;
    for (double sum : measure(squares)) total += sum;
    for (const Segment& segment : in_order_) total += squares(segment);
    const double norm = std::sqrt(total) * unscale;
    for (PlanRow* row : rows_) {
        if (row->group->max_norm == Group::none) continue;
        const double scale = row->group->max_norm / (norm + row->group->norm_eps);
        row->group->grad_scale = scale >= 1 ? unscale : unscale * scale;
    }
    return norm;
}

void Work::prepare() {
    for (PlanRow* row : rows_) row->group->begin_step();
    bool measured = false;
    for (PlanRow* row : rows_) {
        prepare_row(*row);  // it may share its count with one before
        *row->step += 1;
        measured = measured || is_measured(*row);
    }
    if (measured) measure_updates();
}

// One more read of the gradient and of the buffers that the measure takes.
void Work::measure_updates() {
    for (PlanRow* row : rows_)
        if (is_measured(*row)) prepare_measure(*row);
    const std::vector<double> sums = measure([](const Segment& s) {
        return is_measured(*s.row) ? measure_update(*s.row, s.begin, s.end) : 0.0;
    });
    for (size_t i = 0; i < segments_.size(); ++i) segments_[i].row->measured += sums[i];
    for (PlanRow* row : rows_)
        if (is_measured(*row) && !row->in_order) scale_update(*row);
}

void Work::run(const Pool::Lead& lead) {
    for (const Segment& segment : in_order_) {
        PlanRow& row = *segment.row;
        if (is_measured(row)) {  // what comes before may write what this one reads
            row.measured = measure_update(row, segment.begin, segment.end);
            scale_update(row);
        }
        run_segment(segment, nullptr);
    }
    const auto work = [&](int64_t job) {
        for (size_t i = jobs_[size_t(job)]; i < jobs_[size_t(job) + 1]; ++i)
            run_segment(segments_[i], i + 1 < segments_.size() ? segments_[i + 1].row : nullptr);
    };
    run_jobs(threads_, int64_t(jobs_.size()) - 1, work, lead);
}

void Work::run_segment(const Segment& s, const PlanRow* next) {
    s.row->kernel()(*s.row, s.row->coefficients, s.begin, s.end, next);
}
