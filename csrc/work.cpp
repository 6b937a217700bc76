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
    const double scale = row.group->update_scale(row.measured / double(row.whole ? row.whole : row.count));
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

namespace {

double squares_of(const PlanRow& row, int64_t begin, int64_t end) {
    if (row.group->max_norm == Group::none) return 0;
    return (row.wide() ? row.group->set->squares64 : row.group->set->squares32)(row, nullptr, begin, end);
}

}  // namespace

double Work::total_squares() {
    const auto squares = [](const Segment& s) { return squares_of(*s.row, s.begin, s.end); };
    double total = 0;
    for (double sum : measure(squares)) total += sum;
    for (const Segment& segment : in_order_) total += squares(segment);
    return total;
}

// One number for each row, in their order.
std::vector<double> Work::by_row(const Measured& one) {
    for (PlanRow* row : rows_) row->measured = 0;
    const std::vector<double> sums = measure(one);
    for (size_t i = 0; i < segments_.size(); ++i) segments_[i].row->measured += sums[i];
    for (const Segment& segment : in_order_) segment.row->measured = one(segment);
    std::vector<double> rows;
    for (const PlanRow* row : rows_) rows.push_back(row->measured);
    return rows;
}

std::vector<double> Work::squares_of_rows() {
    return by_row([](const Segment& s) { return squares_of(*s.row, s.begin, s.end); });
}

std::vector<double> Work::updates_of_rows() {
    for (PlanRow* row : rows_) {
        row->t = *row->step + 1;
        if (is_measured(*row)) prepare_measure(*row);
    }
    return by_row([](const Segment& s) {
        return is_measured(*s.row) ? measure_update(*s.row, s.begin, s.end) : 0.0;
    });
}

void Work::limit_norm(double norm, double unscale) {
    for (PlanRow* row : rows_) {
        if (row->group->max_norm == Group::none) continue;
        const double scale = row->group->max_norm / (norm + row->group->norm_eps);
        row->group->grad_scale = scale >= 1 ? unscale : unscale * scale;
    }
}

void Work::prepare(const std::vector<double>& measured) {
    for (PlanRow* row : rows_) row->group->begin_step();
    bool any = false;
    for (PlanRow* row : rows_) {
        prepare_row(*row);  // it may share its count with one before
        *row->step += 1;
        any = any || is_measured(*row);
    }
    if (any) scale_updates(measured);
}

// Unless they are given, for one more read of the gradient and of the buffers that the measure takes.
void Work::scale_updates(const std::vector<double>& given) {
    measured_before_ = !given.empty();
    for (PlanRow* row : rows_)
        if (is_measured(*row)) prepare_measure(*row);
    std::vector<double> sums;
    if (!measured_before_) sums = measure([](const Segment& s) {
        return is_measured(*s.row) ? measure_update(*s.row, s.begin, s.end) : 0.0;
    });
    for (size_t i = 0; i < sums.size(); ++i) segments_[i].row->measured += sums[i];
    for (PlanRow* row : rows_) {
        if (!is_measured(*row)) continue;
        if (measured_before_) row->measured = given[row->ordinal];
        if (measured_before_ || !row->in_order) scale_update(*row);
    }
}

void Work::run(const Pool::Lead& lead) {
    for (const Segment& segment : in_order_) {
        PlanRow& row = *segment.row;
        if (is_measured(row) && !measured_before_) {  // what comes before may write what this one reads
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
