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

bool is_limited(const PlanRow& row) { return row.group->max_update < Group::none && row.count > 0; }

void prepare_size(PlanRow& row) {
    if (!row.own) row.own.reset(new Folded);
    row.group->fold_size(row.wide(), row.t, *row.own);
    row.squares = 0;
}

double update_squares(const PlanRow& row, int64_t begin, int64_t end) {
    const KernelEntry& kernel = *row.group->kernel;
    return (row.wide() ? kernel.size64 : kernel.size32)(row, row.own->of(row.wide()), begin, end);
}

// From the sum of its squares: an update larger than its group allows is made as large.
void limit_update(PlanRow& row) {
    const double size = std::sqrt(row.squares / double(row.count)), most = row.group->max_update;
    row.group->fold(row.wide(), row.t, size > most ? most / size : 1, *row.own);
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

double Work::limit_norm(double squares_elsewhere) {
    const auto squares = [](const Segment& s) {
        const InstructionSet& set = *s.row->group->set;
        if (s.row->group->max_norm == Group::none) return 0.0;
        return (s.row->wide() ? set.squares64 : set.squares32)(*s.row, nullptr, s.begin, s.end);
    };
    double total = squares_elsewhere;
    for (double sum : measure(squares)) total += sum;
    for (const Segment& segment : in_order_) total += squares(segment);
    const double norm = std::sqrt(total);
    for (PlanRow* row : rows_) {
        if (row->group->max_norm == Group::none) continue;
        const double scale = row->group->max_norm / (norm + 1e-6);
        row->group->grad_scale = scale >= 1 ? 1 : scale;
    }
    return norm;
}

void Work::prepare() {
    for (PlanRow* row : rows_) row->group->begin_step();
    bool limited = false;
    for (PlanRow* row : rows_) {
        prepare_row(*row);  // it may share its count with one before
        *row->step += 1;
        limited = limited || is_limited(*row);
    }
    if (limited) limit_updates();
}

// The size of each update, from one more read of gradient and second moment.
void Work::limit_updates() {
    for (PlanRow* row : rows_)
        if (is_limited(*row)) prepare_size(*row);
    const std::vector<double> sums = measure([](const Segment& s) {
        return is_limited(*s.row) ? update_squares(*s.row, s.begin, s.end) : 0.0;
    });
    for (size_t i = 0; i < segments_.size(); ++i) segments_[i].row->squares += sums[i];
    for (PlanRow* row : rows_)
        if (is_limited(*row) && !row->in_order) limit_update(*row);
}

void Work::run(const Pool::Lead& lead) {
    for (const Segment& segment : in_order_) {
        PlanRow& row = *segment.row;
        if (is_limited(row)) {  // what comes before may write what this one reads
            row.squares = update_squares(row, segment.begin, segment.end);
            limit_update(row);
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
