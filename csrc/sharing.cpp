#include "sharing.h"

#include <algorithm>

int64_t SharedMemory::find(const std::vector<PlanRow*>& rows) {
    writes_.clear();
    bool gradients_apart = true;
    for (PlanRow* row : rows) {
        row->in_order = row->tangled;
        gradients_apart = gradients_apart && row->gradient == span(*row, G);
        for (Stream s : {P, S0, S1, S2}) {
            if (!row->tensor[s] || row->count == 0) continue;
            const auto [begin, end] = span(*row, s);
            writes_.push_back({begin, end, row});
        }
    }
    const bool moved = writes_ != known_;
    int64_t crossed = moved ? sort_out(rows) : none;
    if (!moved && gradients_apart) return none;
    for (PlanRow* row : rows)
        if (!place_gradient(*row)) crossed = int64_t(row->ordinal);
    if (crossed != none) known_.clear();
    return crossed;
}

// Which parameters and state share memory, whatever their gradients.
int64_t SharedMemory::sort_out(const std::vector<PlanRow*>& rows) {
    known_ = writes_;
    sorted_ = writes_;
    std::sort(sorted_.begin(), sorted_.end(), [](const Write& a, const Write& b) { return a.begin < b.begin; });
    any_tangled_ = false;
    for (PlanRow* row : rows) {
        row->tangled = false;
        row->gradient = {};
    }
    int64_t crossed = none;
    const Write* reach = nullptr;  // of the writes so far, the one that ends last
    for (const Write& next : sorted_) {
        if (reach && reach->end > next.begin && reach->row == next.row) crossed = int64_t(next.row->ordinal);
        if (reach && reach->end > next.begin)
            any_tangled_ = reach->row->tangled = next.row->tangled = true;
        if (!reach || next.end > reach->end) reach = &next;
    }
    for (PlanRow* row : rows) row->in_order = row->tangled;
    return crossed;
}

// A gradient may be its own parameter, element by element. Where it touches memory that another
// row writes, both rows are stepped in order.
bool SharedMemory::place_gradient(PlanRow& row) {
    const auto [begin, end] = span(row, G);
    if (row.gradient == std::pair(begin, end)) return true;
    row.gradient = {};
    bool itself = false;
    auto next = std::upper_bound(sorted_.begin(), sorted_.end(), end - 1,
                                 [](const char* at, const Write& write) { return at < write.begin; });
    while (row.count > 0 && next != sorted_.begin()) {
        const Write& write = *--next;
        if (write.end > begin) {
            if (write.row != &row) {
                row.in_order = write.row->in_order = true;
            } else if (row.data[G] != row.data[P] || row.format[G] != row.format[P] || !row.dimensions.empty()) {
                return false;
            } else {
                itself = true;
            }
        }
        if (!any_tangled_ && write.end <= begin) break;
    }
    if (!row.in_order && !itself) row.gradient = {begin, end};
    return true;
}
