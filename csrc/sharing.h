// Which rows of a step share memory, so that they must be stepped one after the other.
#pragma once
#include <vector>

#include "rows.h"

class SharedMemory {
public:
    static constexpr int64_t none = -1;

    // Marks the rows (`in_order`) of which one writes what another reads or writes. Returns the number
    // of a row whose gradient or state lies across its own parameter, or `none`. What is known of the
    // last step is kept for as long as its writes are the same.
    int64_t find(const std::vector<PlanRow*>& rows);

private:
    struct Write {
        char *begin, *end;
        PlanRow* row;
        bool operator==(const Write&) const = default;
    };

    int64_t sort_out(const std::vector<PlanRow*>& rows);
    bool place_gradient(PlanRow& row);

    std::vector<Write> writes_;  // what this step writes, in the order of the rows
    std::vector<Write> known_;   // the same in the last step
    std::vector<Write> sorted_;  // the same, by address
    bool any_tangled_ = false;
};
