// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DatanetRent, IDatanets, IEpochs} from "../src/DatanetRent.sol";
import {Suite} from "./Suite.sol";

/// @notice Says what Datanets there are.
contract Datanets {
    mapping(uint64 => uint64) public bytesOf;
    mapping(uint64 => uint256) public contributionCount;
    address public owner;

    constructor(address owner_) {
        owner = owner_;
    }

    function kindOf(uint64 asset) external pure returns (uint8) {
        return asset < 10 ? 3 : 1;
    }

    function ownerOf(uint256) external view returns (address) {
        return owner;
    }

    function setBytes(uint64 datanet, uint64 bytes_) external {
        bytesOf[datanet] = bytes_;
    }

    function setCount(uint64 datanet, uint256 count) external {
        contributionCount[datanet] = count;
    }

    function setOwner(address owner_) external {
        owner = owner_;
    }
}

/// @notice Counts epochs.
contract Epochs {
    uint64 public currentEpoch = 5;

    function next(uint64 epochs) external {
        currentEpoch += epochs;
    }
}

/// @notice Refuses money until it is told to take it.
contract Refuser {
    bool private takes;

    function take() external {
        takes = true;
    }

    receive() external payable {
        require(takes, "not yet");
    }
}

contract DatanetRentTest is Suite {
    uint64 private constant NET = 1;
    uint64 private constant GIB = 2 ** 30;
    address private constant PAYEE = address(0xBEEF);
    Datanets private nets;
    Epochs private clock;

    function setUp() public override {
        super.setUp();
        nets = new Datanets(author);
        clock = new Epochs();
        rent = new DatanetRent(IDatanets(address(nets)), IEpochs(address(clock)), governor, RENT_DELAY, RENT_PRICE);
        nets.setBytes(NET, 2 * GIB);
        vm.deal(address(this), 1_000 ether);
        vm.prank(governor);
        rent.setAuditor(reviewer);
    }

    /// @dev Nobody could be paid: what would have accrued could never be moved.
    function test_nothing_accrues_before_an_auditor_is_named_and_all_of_it_can_be_taken_back() public {
        rent = new DatanetRent(IDatanets(address(nets)), IEpochs(address(clock)), governor, RENT_DELAY, RENT_PRICE);
        rent.prepay{value: 10 ether}(NET);
        clock.next(3);
        rent.accrue(NET);
        eq("nothing", 0, rent.accountOf(NET).accrued);
        vm.prank(governor);
        rent.setPrice(0.5 ether);
        clock.next(2);
        vm.startPrank(author);
        rent.requestWithdraw(NET, 10 ether);
        clock.next(5);
        vm.warp(block.timestamp + RENT_DELAY);
        rent.withdraw(NET);
        vm.stopPrank();
        eq("all of it", 10 ether, author.balance);
        eq("held", 0, address(rent).balance);
        rent.prepay{value: 10 ether}(NET);
        clock.next(4);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyAuditor.selector, address(0), address(this)));
        pay(0, 1);
        vm.prank(governor);
        rent.setAuditor(reviewer);
        eq("from then on", clock.currentEpoch(), rent.auditedFrom());
        rent.accrue(NET);
        eq("the epochs before it cost nothing", 0, rent.accountOf(NET).accrued);
        clock.next(1);
        rent.accrue(NET);
        eq("the first one after", 1 ether, rent.accountOf(NET).accrued);
        DatanetRent.Period memory period = rent.periodOf(NET, 0);
        eq("begins", clock.currentEpoch() - 1, period.from);
        eq("ends", clock.currentEpoch(), period.until);
        vm.prank(reviewer);
        pay(0, 1 ether);
        eq("reaches who is named", 1 ether, PAYEE.balance);
    }

    function pay(uint32 period, uint96 amount) private {
        rent.pay(PAYEE, one(period, amount));
    }

    function one(uint32 period, uint96 amount) private pure returns (DatanetRent.Payment[] memory payments) {
        payments = new DatanetRent.Payment[](1);
        payments[0] = DatanetRent.Payment({datanet: NET, period: period, amount: amount});
    }

    function testFuzz_without_an_auditor_what_is_prepaid_stays_prepaid(uint88[4] calldata sums, uint8[4] calldata steps, uint40 size) public {
        rent = new DatanetRent(IDatanets(address(nets)), IEpochs(address(clock)), governor, RENT_DELAY, RENT_PRICE);
        uint256 in_ = 0;
        vm.deal(address(this), 1e30);
        for (uint256 i = 0; i < 4; ++i) {
            rent.prepay{value: uint256(sums[i]) + 1}(NET);
            in_ += uint256(sums[i]) + 1;
            nets.setBytes(NET, size);
            clock.next(steps[i]);
            rent.accrue(NET);
            eq("prepaid", in_, rent.accountOf(NET).prepaid);
        }
    }

    /// @dev As the event says.
    function test_what_somebody_else_prepaid_is_the_owners_to_take() public {
        vm.deal(client, 1 ether);
        vm.prank(client);
        rent.prepay{value: 1 ether}(NET);
        vm.startPrank(author);
        rent.requestWithdraw(NET, 1 ether);
        vm.warp(block.timestamp + RENT_DELAY);
        rent.withdraw(NET);
        vm.stopPrank();
        eq("the owner", 1 ether, author.balance);
        eq("who prepaid", 0, client.balance);
    }

    function test_rent_accrues_by_bytes_price_and_epochs() public {
        rent.prepay{value: 10 ether}(NET);
        rent.accrue(NET);
        eq("nothing yet", 0, rent.accountOf(NET).accrued);
        clock.next(3);
        rent.accrue(NET);
        eq("three epochs of two GiB", 6 ether, rent.accountOf(NET).accrued);
        eq("left", 4 ether, rent.accountOf(NET).prepaid);
        clock.next(3);
        rent.accrue(NET);
        eq("as far as it reaches", 10 ether, rent.accountOf(NET).accrued);
        eq("none left", 0, rent.accountOf(NET).prepaid);
        rent.prepay{value: 10 ether}(NET);
        eq("what was not prepaid is not owed", 10 ether, rent.accountOf(NET).prepaid);
        eq("held", 20 ether, address(rent).balance);
    }

    function test_growth_is_charged_from_when_it_is_seen() public {
        rent.prepay{value: 100 ether}(NET);
        nets.setBytes(NET, 10 * GIB);
        clock.next(1);
        rent.accrue(NET);
        eq("as seen before", 2 ether, rent.accountOf(NET).accrued);
        clock.next(1);
        rent.accrue(NET);
        eq("as grown", 12 ether, rent.accountOf(NET).accrued);
    }

    function test_a_fraction_of_a_wei_is_carried() public {
        vm.prank(governor);
        rent.setPrice(1);
        nets.setBytes(NET, GIB / 4);
        rent.prepay{value: 10}(NET);
        for (uint256 i = 1; i <= 8; ++i) {
            clock.next(1);
            rent.accrue(NET);
            eq("a wei each four epochs", i / 4, rent.accountOf(NET).accrued);
        }
    }

    function test_the_price_falls_at_once_and_rises_after_notice() public {
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyGovernor.selector, governor, address(this)));
        rent.setPrice(1);
        rent.prepay{value: 900 ether}(NET);
        vm.startPrank(governor);
        clock.next(1);
        rent.setPrice(0.5 ether);
        clock.next(1);
        rent.accrue(NET);
        eq("each epoch at its own price", 3 ether, rent.accountOf(NET).accrued);
        rent.setPrice(5 ether);
        eq("announced", block.timestamp + RENT_DELAY, rent.priceRisesAt());
        vm.warp(block.timestamp + RENT_DELAY - 1);
        clock.next(1);
        rent.accrue(NET);
        eq("not yet", 4 ether, rent.accountOf(NET).accrued);
        vm.warp(block.timestamp + 1);
        rent.accrue(NET);
        eq("the new price", 5 ether, rent.price());
        clock.next(1);
        rent.accrue(NET);
        eq("from then on", 14 ether, rent.accountOf(NET).accrued);
        rent.setPrice(8 ether);
        rent.setPrice(4 ether);
        eq("a fall takes a rise back", 0, rent.priceRisesAt());
        vm.stopPrank();
    }

    function test_the_owner_takes_the_unspent_rest_after_the_delay() public {
        rent.prepay{value: 10 ether}(NET);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyDatanetOwner.selector, author, address(this)));
        rent.requestWithdraw(NET, 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyDatanetOwner.selector, author, address(this)));
        rent.withdraw(NET);
        vm.startPrank(author);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NothingLeaving.selector, NET));
        rent.withdraw(NET);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NotEnough.selector, 10 ether, 11 ether));
        rent.requestWithdraw(NET, 11 ether);
        rent.requestWithdraw(NET, 9 ether);
        uint256 until = block.timestamp + RENT_DELAY;
        clock.next(1);
        vm.warp(until - 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.StillWaiting.selector, until, until - 1));
        rent.withdraw(NET);
        vm.warp(until);
        rent.withdraw(NET);
        eq("what rent left of it", 8 ether, author.balance);
        eq("held", 2 ether, address(rent).balance);
        rent.requestWithdraw(NET, 0);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NothingLeaving.selector, NET));
        rent.withdraw(NET);
        vm.stopPrank();
    }

    function test_only_the_auditor_moves_accrued_rent_and_no_more_of_a_period_than_was_charged() public {
        rent.prepay{value: 10 ether}(NET);
        clock.next(2);
        rent.accrue(NET);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyAuditor.selector, reviewer, address(this)));
        pay(0, 1);
        DatanetRent unnamed = new DatanetRent(IDatanets(address(nets)), IEpochs(address(clock)), governor, RENT_DELAY, RENT_PRICE);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "auditor"));
        unnamed.setAuditor(address(0));
        vm.prank(author);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyGovernor.selector, governor, author));
        unnamed.setAuditor(author);
        unnamed.setAuditor(reviewer);
        eq("the deployer names it", reviewer, unnamed.auditor());
        vm.prank(governor);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.AuditorAlreadySet.selector, reviewer));
        rent.setAuditor(author);
        vm.startPrank(reviewer);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NotEnough.selector, 4 ether, 5 ether));
        pay(0, 5 ether);
        vm.expectRevert(DatanetRent.ZeroAmount.selector);
        pay(0, 0);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.UnknownPeriod.selector, NET, 1));
        pay(1, 1);
        pay(0, 3 ether);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NotEnough.selector, 1 ether, 1 ether + 1));
        pay(0, 1 ether + 1);
        vm.stopPrank();
        eq("payee", 3 ether, PAYEE.balance);
        eq("accrued", 1 ether, rent.accountOf(NET).accrued);
        eq("of the charge", 3 ether, rent.periodOf(NET, 0).paid);
        eq("held", 7 ether, address(rent).balance);
    }

    function test_a_payee_that_refuses_is_credited() public {
        rent.prepay{value: 10 ether}(NET);
        clock.next(1);
        rent.accrue(NET);
        address payable refuser = payable(address(new Refuser()));
        vm.prank(reviewer);
        rent.pay(refuser, one(0, 1 ether));
        eq("kept for it", 1 ether, rent.owed(refuser));
        eq("held", 10 ether, address(rent).balance);
        vm.expectRevert();
        rent.withdrawOwed(refuser);
        Refuser(refuser).take();
        rent.withdrawOwed(refuser);
        eq("taken", 1 ether, refuser.balance);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NothingOwed.selector, refuser));
        rent.withdrawOwed(refuser);
    }

    /// @dev What a charge is for: epochs that ended, and contributions that were there when they began.
    function test_a_charge_names_its_epochs_and_its_contributions() public {
        nets.setCount(NET, 3);
        rent.prepay{value: 100 ether}(NET);
        nets.setBytes(NET, 4 * GIB);
        nets.setCount(NET, 5);
        eq("nothing is charged yet", 0, rent.periodCount(NET));
        clock.next(3);
        rent.accrue(NET);
        rent.accrue(NET);
        eq("one charge", 1, rent.periodCount(NET));
        DatanetRent.Period memory period = rent.periodOf(NET, 0);
        eq("from", 5, period.from);
        eq("until", 8, period.until);
        eq("contributions", 3, period.contributions);
        eq("bytes", 2 * GIB, period.textBytes);
        eq("charged", 6 ether, period.charged);
        clock.next(1);
        rent.accrue(NET);
        period = rent.periodOf(NET, 1);
        eq("from", 8, period.from);
        eq("until", 9, period.until);
        eq("as grown", 5, period.contributions);
        eq("as grown", 4 * GIB, period.textBytes);
        eq("charged", 4 ether, period.charged);
    }

    function test_what_nobody_earned_is_prepaid_again_after_the_time_to_claim() public {
        uint64 most = rent.CLAIM_EPOCHS();
        rent.prepay{value: 10 ether}(NET);
        clock.next(1);
        rent.accrue(NET);
        nets.setBytes(NET, 0);
        rent.accrue(NET);
        vm.prank(reviewer);
        pay(0, 0.5 ether);
        clock.next(most);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.StillClaimable.selector, 6 + most, 6 + most));
        rent.giveBack(NET, 0);
        vm.prank(reviewer);
        pay(0, 0.5 ether);
        clock.next(1);
        vm.prank(reviewer);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ClaimsOver.selector, 6 + most, 7 + most));
        pay(0, 0.5 ether);
        rent.giveBack(NET, 0);
        eq("prepaid", 9 ether, rent.accountOf(NET).prepaid);
        eq("accrued", 0, rent.accountOf(NET).accrued);
        eq("held", 9 ether, address(rent).balance);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NothingUnpaid.selector, NET, 0));
        rent.giveBack(NET, 0);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.UnknownPeriod.selector, NET, 1));
        rent.giveBack(NET, 1);
    }

    function test_wrong_values_are_refused() public {
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.NotADatanet.selector, 10));
        rent.prepay{value: 1}(10);
        vm.expectRevert(DatanetRent.ZeroAmount.selector);
        rent.prepay(NET);
        uint256 tooMuch = uint256(type(uint96).max) + 1;
        vm.deal(address(this), tooMuch);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.AmountTooLarge.selector, tooMuch));
        rent.prepay{value: tooMuch}(NET);
        IDatanets registry_ = IDatanets(address(nets));
        IEpochs epochs = IEpochs(address(clock));
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "registry"));
        new DatanetRent(IDatanets(address(0)), epochs, governor, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "settlement"));
        new DatanetRent(registry_, IEpochs(address(0)), governor, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "governor"));
        new DatanetRent(registry_, epochs, address(0), 1, 1);
        vm.startPrank(governor);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.ZeroAddress.selector, "governor"));
        rent.setGovernor(address(0));
        rent.setGovernor(author);
        vm.expectRevert(abi.encodeWithSelector(DatanetRent.OnlyGovernor.selector, author, governor));
        rent.setGovernor(governor);
        vm.stopPrank();
    }

    function test_the_real_registry_counts_the_bytes() public {
        rent = new DatanetRent(IDatanets(address(registry)), IEpochs(address(settlement)), governor, 1, 1);
        vm.prank(author);
        uint64 datanet = registry.register(3, "");
        rent.prepay{value: 1}(datanet);
        eq("prepaid", 1, rent.accountOf(datanet).prepaid);
        eq("no bytes yet", 0, rent.accountOf(datanet).bytesKept);
    }

    function testFuzz_every_wei_is_prepaid_or_accrued(uint64[5] calldata sums, uint8[5] calldata steps, uint40[5] calldata sizes) public {
        uint256 in_ = 0;
        for (uint256 i = 0; i < 5; ++i) {
            rent.prepay{value: uint256(sums[i]) + 1}(NET);
            in_ += uint256(sums[i]) + 1;
            nets.setBytes(NET, sizes[i]);
            clock.next(steps[i]);
            rent.accrue(NET);
            DatanetRent.Account memory account = rent.accountOf(NET);
            eq("books", in_, uint256(account.prepaid) + account.accrued);
            eq("held", in_, address(rent).balance);
        }
    }
}
